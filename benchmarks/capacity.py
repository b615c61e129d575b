"""The capacity plan: time, disk, network and memory from 10 000 to 10 million identities.

    python -m benchmarks.capacity                          # the tables of docs/scale.md
    python -m benchmarks.capacity --tflops 120 --cores 16  # for other machines
    python -m benchmarks.capacity --write docs/scale.md    # put them into the page
    python -m benchmarks.capacity --measure                # this machine's rates of one core

Operations are counted on networks without data (``vec2face.planning.cost``), bytes from shapes. A
stage takes as long as its slowest resource, all others hidden behind it: a bound from below, which
says where the next euro goes.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import numpy as np

from vec2face.config.params import Params
from vec2face.faces.images import decode, encode
from vec2face.planning.capacity import Machine, Networks, loads, networks, pairs_compared, sized
from vec2face.recognizers.augment import augment
from vec2face.recognizers.partial_fc import memory

SIZES = (10_000, 20_000, 100_000, 200_000, 300_000)
BEYOND = 10_000_000
GPUS = (1, 8, 64)
MARKS = ("<!-- tables: python -m benchmarks.capacity -->", "<!-- end of tables -->")


def markdown(head: list[str], rows: list[list[str]], *, numbers: bool = True) -> str:
    """Return a table; columns of ``numbers``, all but the first, are aligned to the right."""
    lines = [head, ["---"] + ["---:" if numbers else "---"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def figure(value: float) -> str:
    """Return a number with two digits that count."""
    if value >= 9.95:
        return f"{float(f'{value:.2g}'):,.0f}".replace(",", " ")
    return f"{value:.2g}"


def of_an_image(nets: Networks) -> str:
    """Return the table of the counted networks."""
    names = {
        "generator, training (half of the rows)": nets.training,
        "generator, generating": nets.generation,
        "IResNet-100: features, identity loss": nets.teacher,
        "SE-IResNet-50, trained": nets.recognizer,
    }
    rows = [
        [
            name,
            f"{c.forward / 1e9:.1f}",
            f"{c.backward / 1e9:.1f}",
            f"{c.parameters / 1e6:.1f}",
            f"{4 * c.parameters / 1e9:.2f}",
        ]
        for name, c in names.items()
    ]
    head = ["network", "GFLOP forward", "GFLOP backward", "million parameters", "GB float32"]
    return markdown(head, rows)


def of_a_size(p: Params, nets: Networks, machine: Machine) -> str:
    """Return the table over the sizes of the dataset."""
    rows = []
    for identities in SIZES:
        q = sized(p, identities)
        made = identities * q.images_per_identity
        of = {load.stage: load for load in loads(q, nets)}
        vectors = 4.0 * p.fr.embedding * made
        rows.append(
            [
                f"HSFace{identities // 1000}K",
                figure(made / 1e6),
                figure((of["dataset"].disk / 2 - vectors) / 1e9),
                figure(vectors / 1e9),
                figure(of["identities"].hours(machine, 1)[0] * 60),
                figure(of["dataset"].flop / machine.tflops / 3.6e15),
                figure(of["recognizer"].flop / machine.tflops / 3.6e15),
                figure(of["recognizer"].disk / 1e12),
            ]
        )
    head = ["dataset", "million images", "JPEGs, GB", "vectors, GB", "identities, CPU minutes"]
    head += ["generation, GPU hours", "recognizer, GPU hours", "read in training, TB"]
    return markdown(head, rows)


def of_a_cluster(p: Params, nets: Networks, machine: Machine) -> str:
    """Return the hours of every stage by number of GPUs, with what holds it up."""
    rows = []
    totals = [0.0] * len(GPUS)
    for load in loads(sized(p, 300_000), nets):
        cells = []
        for i, gpus in enumerate(GPUS):
            hours, slowest = load.hours(machine, gpus)
            totals[i] += hours
            cells.append(f"{figure(hours)} ({slowest})")
        rows.append([load.stage, *cells])
    rows.append(["all", *map(figure, totals)])
    return markdown(["stage", *(f"{n} GPU, hours" for n in GPUS)], rows)


def of_a_gpu(p: Params, nets: Networks, machine: Machine) -> str:
    """Return what a busy GPU asks of the rest, and from how many GPUs the rest is too slow."""
    rows = []
    for load in loads(sized(p, 300_000), nets):
        if load.stage not in ("features", "generator", "dataset", "recognizer"):
            continue
        alone = load.flop / (machine.tflops * 1e12)  # seconds of one GPU
        images = (load.encoded + load.prepared) / alone
        cores = (load.encoded / machine.encode + load.prepared / machine.prepare) / alone
        held = {}
        for gpus in (2**i for i in range(13)):
            slowest = load.hours(machine, gpus)[1]
            if slowest != "GPU":
                held = {"from": f"{gpus} GPUs: {slowest}"}
                break
        step = load.steps * 2 * (load.reduced + load.gathered) / alone / 1e9
        rows.append(
            [
                load.stage,
                figure(images),
                figure(cores),
                figure(load.disk / alone / 1e6),
                figure(step * 7 / 8 * 8) if step else "none",
                held.get("from", "beyond 4 096"),
            ]
        )
    head = ["stage", "images/s", "cores", "disk, MB/s", "network at 8 GPUs, GB/s"]
    return markdown([*head, "not the GPU limits from"], rows)


def head_gb(p: Params, classes: int, ranks: int, rate: float) -> float:
    """Return the GB of a class head on each rank, when a whole batch is one round."""
    return sum(memory(classes, p.fr.embedding, ranks, p.fr.batch, rate).values()) / 1e9


def of_the_head(p: Params) -> str:
    """Return the head's memory on each rank."""
    rows = []
    for classes in (300_000, BEYOND):
        for rate in (1.0, 0.1):
            cells = [figure(head_gb(p, classes, n, rate)) for n in GPUS]
            rows.append([f"{figure(classes)} classes, sample rate {rate:g}", *cells])
    return markdown(["head", *(f"{n} GPU, GB each" for n in GPUS)], rows)


def beyond(p: Params, nets: Networks, machine: Machine) -> str:
    """Return what ten million identities ask for, hardest first, with remedies."""
    made = BEYOND * p.images_per_identity
    of = {load.stage: load for load in loads(sized(p, BEYOND), nets)}
    vector = 4.0 * p.fr.embedding
    candidates, compared = pairs_compared(BEYOND)
    filtered = compared * 2 * p.fr.embedding
    days, minutes = filtered / machine.cpu_gflops / 8.64e13, filtered / machine.tflops / 6e13
    head_flop = 6.0 * p.fr.embedding * BEYOND
    share = head_flop / (head_flop + nets.recognizer.forward + nets.recognizer.backward)
    hours = {stage: of[stage].flop / machine.tflops / 3.6e15 for stage in ("dataset", "recognizer")}
    store = of["dataset"].disk / 2 - made * vector
    needs = {
        "identity filter": f"{figure(candidates / 1e6)} million candidates, {filtered:.1e} FLOP, "
        f"{figure(days)} days in one process",
        "class head on one GPU": f"{figure(head_gb(p, BEYOND, 1, 1.0))} GB",
        "recognizer's training": f"{figure(hours['recognizer'])} GPU hours, {100 * share:.0f} % of "
        "them in the head",
        "vectors of images": f"{figure(made * vector / 1e12)} TB in `generated_vectors.npy`",
        "order of an epoch, labels": f"{figure(8 * made / 1e9)} GB each, in every reading process",
        "indices of records": f"about {figure(20 * made / 1e9)} GB of `.idx` text, parsed by every "
        "reader",
        "vectors in the filter": f"{figure(1.5 * BEYOND * vector / 1e9)} GB, a third in bfloat16",
        "the store": f"{figure(store / 1e12)} TB, {figure(hours['dataset'])} GPU hours",
    }
    remedies = (
        (
            f"the same blocks of products on GPUs ({figure(minutes)} minutes on one), kept vectors "
            "cut over ranks, the verdicts of a block gathered"
        ),
        "classes over ranks, and a sample rate of 0.1 (the table above)",
        (
            f"a sample rate of 0.1 saves {figure(0.9 * share * hours['recognizer'])} of the hours; "
            "fewer epochs, since images are plentiful"
        ),
        "keep none: a vector is a function of (seed, image number)",
        "shuffle shards, then rows within a few of them; map `labels.npy` from the disk",
        "parse a shard's index when the shard is first read",
        "fits a node; cut over ranks it is small",
        "object storage, shard by shard; both grow in proportion",
    )
    rows = [[*need, remedy] for need, remedy in zip(needs.items(), remedies, strict=True)]
    return markdown(["what", "need", "remedy"], rows, numbers=False)


def inputs(machine: Machine) -> str:
    """Return the assumptions."""
    texts = dict(
        line.strip().split(": ", 1)
        for line in (Machine.__doc__ or "").split("Attributes:")[1].strip().splitlines()
    )
    rows = []
    for field in fields(Machine):
        value = f"{getattr(machine, field.name):,g}".replace(",", " ")
        rows.append([f"`--{field.name.replace('_', '-')}`", value, texts[field.name].rstrip(".")])
    return markdown(["input", "value", "meaning"], rows, numbers=False)


def report(machine: Machine, path: str = "params/paper.yaml") -> str:
    """Return all tables, in markdown."""
    p = Params.load(path)
    nets = networks(p)
    parts = {
        "Assumed rates": inputs(machine),
        "Counted, for one image": of_an_image(nets),
        "By size": of_a_size(p, nets, machine),
        "HSFace300K on 1, 8 and 64 GPUs": of_a_cluster(p, nets, machine),
        "What one busy GPU asks for": of_a_gpu(p, nets, machine),
        "The class head": of_the_head(p),
        f"{BEYOND // 10**6} million identities, {BEYOND * p.images_per_identity // 10**6} "
        "million images": beyond(p, nets, machine),
    }
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in parts.items())


def rate(work: Callable[[], object], count: int) -> float:
    """Return how often a second ``work``, done ``count`` times in a call, is done."""
    seconds = []
    for _ in range(5):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return count / min(seconds)


def measure() -> str:
    """Return this machine's rates of one core, on smooth images with some noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:112, :112][..., None] / 9
    waves = 128 + 50 * np.sin(x + np.arange(3)) + 40 * np.cos(y + rng.random((64, 1, 1, 1)))
    images = np.clip(waves + rng.normal(0, 3, waves.shape), 0, 255).astype(np.uint8)
    jpegs = [encode(image) for image in images]
    settings = Params.load("params/paper.yaml").fr.augment
    rates = {
        "bytes of a JPEG": float(np.mean([len(jpeg) for jpeg in jpegs])),
        "--encode": rate(lambda: [encode(image) for image in images], 64),
        "decode": rate(lambda: [decode(jpeg, "") for jpeg in jpegs], 64),
        "augment": rate(lambda: augment(images, np.arange(64), 0, 0, settings), 64),
    }
    rates["--prepare"] = 1 / (1 / rates["decode"] + 1 / rates["augment"])
    return "\n".join(f"{name:16} {value:10.0f}" for name, value in rates.items())


def write(page: Path, tables: str) -> None:
    """Replace what is between the marks of ``page``."""
    before, rest = page.read_text().split(MARKS[0])
    after = rest.split(MARKS[1])[1]
    page.write_text(f"{before}{MARKS[0]}\n\n{tables}\n\n{MARKS[1]}{after}")


def main() -> None:
    """Print the tables, or put them into a page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for field in fields(Machine):
        name = f"--{field.name.replace('_', '-')}"
        parser.add_argument(name, type=float, default=field.default)
    parser.add_argument("--params", default="params/paper.yaml")
    parser.add_argument("--write", type=Path, metavar="PAGE")
    parser.add_argument("--measure", action="store_true")
    given = parser.parse_args()
    if given.measure:
        print(measure())
        return
    machine = Machine(**{field.name: getattr(given, field.name) for field in fields(Machine)})
    tables = report(machine, given.params)
    if given.write:
        write(given.write, tables)
    else:
        print(tables)


if __name__ == "__main__":
    main()
