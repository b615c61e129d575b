"""The report page: self-contained, escaped, only what was measured."""

from html.parser import HTMLParser
from pathlib import Path

import pytest

from vec2face.report.page import Picture, Section, cards, page
from vec2face.report.tables import table

EVALUATION = {"generated": {"lfw": {"accuracy": 80.0}}}


class Elements(HTMLParser):
    """Collects tags; void elements aside, every one must be closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.headings: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [v or "" for k, v in attributes if k in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


def parsed(html: str) -> Elements:
    elements = Elements()
    elements.feed(html)
    elements.close()
    assert elements.open == []
    return elements


@pytest.mark.parametrize("world", ["rendered", "photos"])
def test_page_is_well_formed_and_self_contained(tmp_path: Path, world: str) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(b"\x89PNG")
    html = page(
        world=world,
        metrics={"lfw": 80.0, "avg": 80.0, "avg_benchmarks": 1},
        sections=[
            Section("Faces", "They <look> back.", [Picture(image, 'a "face"')]),
            Section("Tables", "Two.", tables=[table(1, EVALUATION, world, 1, 1)]),
            Section("Nothing", "was measured."),
        ],
        settings={"tau": 0.3},
    )
    elements = parsed(html)
    assert elements.headings == ["Faces", "Tables"]
    assert elements.sources == ["#s1", "#s2", "data:image/png;base64,iVBORw=="]
    assert "They &lt;look&gt; back." in html
    assert ("not comparable" in html) == (world == "rendered")
    assert "http" not in html


def test_cards_show_only_what_was_measured() -> None:
    assert cards({}, "paper") == []
    shown = cards({"avg": 71.26, "avg_benchmarks": 1, "lfw": 71.26, "recovery": 0.625}, "paper")
    assert [(c.value, *c.notes) for c in shown] == [
        ("71.3 %", "LFW"),
        ("62 %", "gain over chance, generated / originals"),
    ]


def test_recovery_is_called_rough_away_from_the_papers_scale() -> None:
    for world, rough in (("rendered", True), ("photos", True), ("paper", False)):
        (card,) = cards({"recovery": 0.6}, world)
        assert any("laptop-scale.md" in note for note in card.notes) == rough


def test_separation_stands_beside_that_of_the_originals() -> None:
    measured = {
        "separated_share": 0.02,
        "held_out_separated_share": 0.61,
        "second_separated_share": 0.04,
        "second_held_out_separated_share": 0.13,
        "second_inter_noise": 0.21,
    }
    own, second = cards(measured, "rendered")
    assert own.value == "2 %"
    assert any("61 %" in note for note in own.notes)
    assert not any("perturbation" in note for note in own.notes), "pure_ was not measured"
    assert second.value == "4 %"
    assert [any(v in n for n in second.notes) for v in ("13 %", "21 %")] == [True, True]
