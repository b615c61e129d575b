"""The report page: self-contained, escaped, only what was measured."""

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from vec2face.config.params import Params
from vec2face.report.page import cards, page
from vec2face.report.tables import tables

ROOT = Path(__file__).parents[2]
PICTURES = (
    *("accuracies", "training_faces", "reconstructions", "rising_sigma", "generated_faces"),
    *("similarities", "roc", "curves_generator"),
)
EVALUATION = {"generated": {"lfw": {"accuracy": 80.0}}}


class Elements(HTMLParser):
    """Collects tags; void elements aside, every one must be closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.sections: list[str] = []  # links that lead to them
        self.headings: list[str] = []
        self.captions: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [v or "" for k, v in attributes if k in ("src", "href")]
        self.sections += [f"#{v}" for k, v in attributes if k == "id"]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)
        if self.open and self.open[-1] == "figcaption":
            self.captions.append(data)


def parsed(html: str) -> Elements:
    elements = Elements()
    elements.feed(html)
    elements.close()
    assert elements.open == []
    return elements


@pytest.fixture
def render(tmp_path: Path) -> Callable[..., str]:
    """A function that renders a page of a run with some parameters; every picture is the same."""
    image = tmp_path / "a.png"
    image.write_bytes(b"\x89PNG")
    params = Params.load(ROOT / "params.yaml")

    def write(metrics: dict[str, float] | None = None, **changed: object) -> str:
        p = params.model_copy(update=changed)
        pictures = (*PICTURES, *(f"curves_fr_{name}" for name in p.training_sets))
        laid_out = tables(EVALUATION, p.world, 1, 1).values()
        return page(p, metrics or {}, laid_out, dict.fromkeys(pictures, image))

    return write


@pytest.mark.parametrize("world", ["rendered", "photos", "paper"])
def test_page_is_well_formed_and_self_contained(render: Callable[..., str], world: str) -> None:
    html = render({"lfw": 80.0, "avg": 80.0, "avg_benchmarks": 1}, world=world)
    elements = parsed(html)
    chapters = len(elements.headings)
    links = [f"#s{i}" for i in range(1, chapters + 1)]
    assert elements.sources[:chapters] == elements.sections == links
    assert {*elements.sources[chapters:]} == {"data:image/png;base64,iVBORw=="}
    assert ("not comparable" in html) == (world == "rendered")
    assert "http" not in html


def test_each_training_has_a_picture_in_the_order_of_the_roles(render: Callable[..., str]) -> None:
    sets = {"zoo": "z", "real": "r", "a_set": "a", "generated": "g"}
    captions = parsed(render(training_sets=sets)).captions
    generator = captions.index("The generator.")
    assert [caption.split(", on ")[1] for caption in captions[generator + 1 :]] == [
        "generated faces.",
        "originals.",
        "a_set.",
        "zoo.",
    ]


def test_what_comes_from_outside_is_escaped(render: Callable[..., str]) -> None:
    assert "<b>x</b>" not in render({"<b>x</b>": 1.0})


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
