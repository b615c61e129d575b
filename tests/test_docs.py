"""What the documentation lists is what there is."""

import ast
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.test_rooms import ROOMS
from vec2face.dataset.perturbation import Perturbation
from vec2face.report.tables import HEADLINE, paper_table

ROOT = Path(__file__).parents[1]
NAMES = set(re.findall(r"`([\w.]+)`", (ROOT / "docs/measures.md").read_text()))
EXPLAINED = {name for name in NAMES if not name.endswith("...")}
PREFIXES = tuple(name.removesuffix("...") for name in NAMES if name.endswith("..."))
PREFIXES += ("second_", "held_out_")


def explained(key):
    """Whether a key is listed, as it is or after prefixes that are."""
    return key in EXPLAINED or any(
        key.startswith(p) and explained(key.removeprefix(p)) for p in PREFIXES
    )


def read(name):
    return json.loads((ROOT / f"reports/{name}.json").read_text())


@pytest.mark.parametrize("name", ["quality", "sampling", "perturbation"])
def test_every_key_of_the_reports_is_explained(name):
    assert not [key for key in read(name) if not explained(key)]


def test_every_headline_is_explained():
    assert not [name for name in HEADLINE if not explained(name.rpartition(".")[2])]


def test_every_figure_of_an_evaluation_is_explained():
    figures = {key for marks in read("evaluation").values() for m in marks.values() for key in m}
    assert figures
    assert figures <= EXPLAINED


PAGES = [ROOT / "README.md", ROOT / "CREDITS.md", ROOT / "data/README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))
METHOD = (ROOT / "docs/method.md").read_text()
ROOMS_LISTED = re.compile(r"^  (\w+)(?:/|\.py)", re.MULTILINE)


def defined(body, name):
    """Whether a module or a class defines a name, or a dotted one: ``Class.method``."""
    first, _, rest = name.partition(".")
    for node in body:
        targets = [*getattr(node, "targets", []), getattr(node, "target", None)]
        names = {t.id for t in targets if isinstance(t, ast.Name)} | {getattr(node, "name", None)}
        if first in names:
            return defined(node.body, rest) if rest else True
    return False


def test_the_readings_of_sigma_are_computed_from_the_papers_table():
    """tan(angle) = noise / vector: only one reading gives one length of the shortest vector."""
    rows = {}
    for printed in paper_table(5).itertuples():
        largest, cosine = max(map(float, printed.sigma.split())), float(printed.sim_min)
        if printed.share_percent != "20 40 40":
            tangent = math.sqrt(1 / cosine**2 - 1)
            noise = math.sqrt(512 * largest), math.sqrt(512) * largest
            rows[largest] = (cosine, tangent, *(length / tangent for length in noise))
    written = re.findall(r"^\| (0\.\d) \| ([\d. |]+) \|$", METHOD, re.MULTILINE)
    assert {float(sigma): cells.split(" | ") for sigma, cells in written} == {
        sigma: [f"{x:.2f}" for x in row[:2]] + [f"{x:.1f}" for x in row[2:]]
        for sigma, row in rows.items()
    }
    spread = [max(lengths) / min(lengths) for lengths in list(zip(*rows.values(), strict=True))[2:]]
    variance, std = spread
    assert variance < 1.11
    assert std > 1.58


def test_noise_of_each_reading_is_what_the_method_says():
    written = re.findall(r"^\| `(\w+)` \| `(\w+)` \|.*\| ([\d., ]+) \|$", METHOD, re.MULTILINE)
    assert len(written) == 4
    for sigma_is, sigma_unit, cells in written:
        sigma = [0.3, 0.5, 0.7]
        read = Perturbation(0, 1, sigma, [1, 0, 0], 0.5, 0.967, sigma_is, sigma_unit)
        assert cells == ", ".join(f"{x:.3f}" for x in read.deviation(np.array(sigma)))


def test_every_function_that_the_method_names_exists():
    named = re.findall(r"`(vec2face/[\w/]+\.py): ([\w.]+)`", METHOD)
    assert named
    trees = {file: ast.parse((ROOT / file).read_text()) for file, _ in named}
    assert not [(file, name) for file, name in named if not defined(trees[file].body, name)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_path_that_a_page_names_exists(page):
    text = page.read_text()
    paths = re.findall(r"\b((?:vec2face|stages|benchmarks|params|tests)/[\w./-]*\w)", text)
    programs = re.findall(r"-m ((?:stages|benchmarks)\.\w+)", text)
    for program in [program.replace(".", "/") for program in programs]:
        paths += [program if (ROOT / program / "__main__.py").exists() else f"{program}.py"]
    missing = {path for path in paths if not (ROOT / path).exists()}
    # A dotted name leads to a module, or to something within one.
    for name in re.findall(r"`(vec2face(?:\.\w+)+)`", text):
        module, _, inside = name.rpartition(".")
        files = [ROOT / f"{part.replace('.', '/')}.py" for part in (name, module)]
        if not files[0].exists() and not (
            files[1].exists() and defined(ast.parse(files[1].read_text()).body, inside)
        ):
            missing.add(name)
    # A link leads to a file beside the page.
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    missing |= {link for link in links if not (page.parent / link).exists()}
    assert not missing


def within(key, section):
    return key == section or key.startswith(f"{section}.")


def keys_by_stage():
    """The keys of each stage: its parameters, and those that its paths and sets are named by."""
    found = {}
    for file in ("data/rendered/dvc.yaml", "dvc.yaml"):
        for name, stage in yaml.safe_load((ROOT / file).read_text())["stages"].items():
            body = stage.get("do", stage)
            if name != "report" and not body.get("frozen"):
                named = re.findall(r"\$\{([\w.]+)\}", json.dumps(stage))
                for entry in body.get("params", []):
                    named += entry["params.yaml"] if isinstance(entry, dict) else [entry]
                keys = {key.partition(".${")[0] for key in named}
                found[name] = {key for key in keys if key.split(".")[0] not in ("item", "key")}
    return found


def test_the_experiments_page_lists_what_reads_each_key():
    page = (ROOT / "docs/experiments.md").read_text()
    written = {}
    for cells, stages in re.findall(r"^\| (`.*) \| (.*) \|$", page, re.MULTILINE):
        written |= dict.fromkeys(re.findall(r"`([\w.]+)`", cells), stages)
    known = keys_by_stage()
    expected = {
        row: ", ".join(
            stage
            for stage, keys in known.items()
            if any(within(row, k) or (within(k, row) and k not in written) for k in keys)
        )
        for row in written
    }
    assert written == {row: stages or "report" for row, stages in expected.items()}
    # No key is left out: neither one that a stage reads, nor one of the file.
    content = yaml.safe_load((ROOT / "params.yaml").read_text())
    every = {f"paths.{name}" for name in content.pop("paths")} | set(content)
    every |= {key for keys in known.values() for key in keys}
    assert not {k for k in every if not any(within(k, w) or within(w, k) for w in written)}


def test_the_readme_lists_the_rooms_in_their_order():
    tree = (ROOT / "README.md").read_text().partition("```text\n")[2].partition("```")[0]
    rooms = tree.partition("vec2face/")[2]
    assert tuple(ROOMS_LISTED.findall(rooms)) == ROOMS
