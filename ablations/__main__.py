"""Run variants of the pipeline, over seeds, and lay them out as the paper's tables.

    python -m ablations check [<table> ...]   what tables will cost; nothing runs
    python -m ablations <table>               a table of ablations/variants.yaml
    python -m ablations table10               whether params/paper.yaml is the paper's
    python -m ablations verdicts              what the tables say of the paper's statements
    python -m ablations ladder                real faces, reconstructions, perturbed, sampled people

What was finished is not computed again: every (variant, seed) leaves a small file in
reports/ablations/results, and every stage of it a folder in work/ablations. Several variants run
side by side on several GPUs, one after the other without. A table is reports/ablations/<table>.csv,
.md and .json; the ladder, which needs the pipeline's own results, .md and .json.
"""

import logging
import sys
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from ablations import costs, layout, results, table10, verdicts
from ablations.devices import devices
from ablations.pipeline import Own
from ablations.roots import Root
from ablations.study import Study, Variant, read_study
from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.runtime.files import InputError, whole_file, write_json

log = logging.getLogger(__name__)

BASE = Path()
WORK = artifacts.work / "ablations"
REPORTS = BASE / "reports/ablations"
RESULTS = REPORTS / "results"


def result_file(variant: str, seed: int) -> Path:
    """Return where the result of a variant lies."""
    return RESULTS / f"{variant}-{seed}.json"


@dataclass(frozen=True)
class Job:
    """A variant with a seed."""

    name: str
    variant: Variant
    seed: int
    root: Root
    made_of: results.MadeOf

    def run(self) -> None:
        """Make what it asks for, and write its result."""
        self.root.make(self.variant.stages)
        found = results.metrics(self.root, self.variant.stages)
        file = result_file(self.name, self.seed)
        results.keep(file, self.name, self.seed, self.made_of, found)


def runs(study: Study, table: str) -> list[tuple[str, int]]:
    """Return the variants of a table, each with each seed."""
    asked = study.table(table)
    return [(name, seed) for seed in asked.seeds for name in asked.variants()]


def jobs(study: Study, tables: Iterable[str]) -> list[Job]:
    """Return the jobs of some tables whose results are not there; stale ones are named."""
    own, found = Own(BASE), []
    wanted = {run for table in tables for run in runs(study, table)}
    for seed, name in sorted((seed, name) for name, seed in wanted):
        variant = study.variants[name]
        root = variant.root(WORK / f"{name}-{seed}", BASE, seed, own)
        job = Job(name, variant, seed, root, results.made_of(root, variant.stages))
        if results.kept(result_file(name, seed), job.made_of) is None:
            found.append(job)
    return found


def plan(left: Iterable[Job]) -> str:
    """Return what jobs will cost, as text."""
    return costs.summary(
        costs.runs((job.root, job.variant.stages, job.variant.sets) for job in left)
    )


def make(study: Study, name: str) -> None:
    """Run what a table lacks and write it.

    Raises:
        InputError: some variants failed; the others are finished, and the table lacks their rows.
    """
    left = jobs(study, [name])
    if left:
        log.info("%s: %d results are to be made:\n%s", name, len(left), plan(left))
    errors, pool = {}, ThreadPoolExecutor(len(devices()))
    try:
        for job, done in [(job, pool.submit(job.run)) for job in left]:
            try:
                done.result()
            except InputError as error:
                errors[job.name, job.seed] = str(error)
    finally:
        pool.shutdown(cancel_futures=True)
    table, found = study.table(name), read_cells(study, name, without=errors)
    world = Params.load(study.variants[table.variants()[0]].parameters).world
    write(name, layout.to_markdown(table, found, world), layout.to_csv(table, found))
    write_json(REPORTS / f"{name}.json", layout.flat(name, found))
    if errors:
        messages = "\n".join(errors.values())
        raise InputError(f"{len(errors)} of {len(left)} results failed: {messages}")


def read_cells(study: Study, name: str, without: Collection[tuple[str, int]] = ()) -> layout.Cells:
    """Return a table's values, of the results that are there; some are not taken."""
    asked = [run for run in runs(study, name) if run not in without]
    found = {run: results.read_metrics(result_file(*run)) for run in asked}
    return layout.cells(study.table(name), found)


def write(name: str, markdown: str, csv: str | None = None) -> None:
    """Write a table to read."""
    texts = {"md": markdown, "csv": csv}
    for ending, text in texts.items():
        if text is not None:
            with whole_file(REPORTS / f"{name}.{ending}") as temporary:
                temporary.write_text(text)
    log.info("%s:\n%s", REPORTS / f"{name}.md", markdown)


def check(study: Study, names: Iterable[str]) -> None:
    """Print what tables will cost: each by itself, and all together, whose variants are shared."""
    names = list(names) or [*study.tables]
    left = {(job.name, job.seed): job for job in jobs(study, names)}
    for name in names:
        print(f"{name}\n{plan(left[run] for run in runs(study, name) if run in left)}\n")
    if names[1:]:
        print(f"together\n{plan(left.values())}\n")
    print(costs.ASSUMED)


def settings() -> None:
    """Compare params/paper.yaml with Table 10."""
    file = "params/paper.yaml"
    found = table10.settings(Params.load(BASE / file))
    write("table10", table10.to_markdown(found, file), table10.to_csv(found))
    differ = [setting.name for setting in found if not setting.same]
    write_json(REPORTS / "table10.json", {"table10.settings_that_differ": len(differ)})
    if differ:
        raise InputError(f"{file}: differs from the paper's Table 10 in {', '.join(differ)}")


def judge(study: Study) -> None:
    """Judge the paper's statements by the tables."""
    tables = {name: read_cells(study, name) for name in study.tables}
    judged = {
        name: (statement, verdicts.judge(statement, tables))
        for name, statement in verdicts.read_statements().items()
    }
    write("verdicts", verdicts.to_markdown(judged))
    write_json(REPORTS / "verdicts.json", {n: v._asdict() for n, (_, v) in judged.items()})


def main(command: str, names: list[str]) -> None:
    """Do what was asked."""
    if command == "ladder":
        from ablations import ladder  # noqa: PLC0415 - torch

        ladder.make(BASE, WORK, REPORTS)
    elif command == "table10":
        settings()
    elif command == "check":
        check(read_study(), names)
    elif command == "verdicts":
        judge(read_study())
    else:
        make(read_study(), command)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    if len(sys.argv) < 2 or (len(sys.argv) > 2 and sys.argv[1] != "check"):
        sys.exit(__doc__)
    try:
        main(sys.argv[1], sys.argv[2:])
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted: run it again to go on from here")
