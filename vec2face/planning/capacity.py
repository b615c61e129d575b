"""What the paper's scale takes of GPUs, processor cores, disk and network, stage by stage.

Built on the counts of ``vec2face.planning.cost``. A stage takes as long as its slowest resource,
all others hidden behind it: a bound from below. ``benchmarks/capacity.py`` prints the plan.
"""

import math
from dataclasses import dataclass

from vec2face.config.params import Params
from vec2face.planning.cost import (
    CPU_GFLOPS,
    Cost,
    backbone_cost,
    generator_cost,
    pipeline_cost,
)
from vec2face.recognizers.backbones import architecture

PCA_IMAGES, PCA_PEOPLE = 5_822_653, 85_742  # MS1MV2
BENCHMARK_IMAGES = 60_000  # the paper's five benchmarks
REJECTED = 0.017  # of 300 000 candidates at tau 0.3 (paper)


@dataclass(frozen=True)
class Machine:
    """Assumed rates, all of them sustained.

    Attributes:
        tflops: 10^12 operations a second of one GPU in bf16.
        cores: processor cores that work for each GPU.
        encode: JPEGs of 112 pixels that a core writes in a second.
        prepare: images that a core decodes and augments in a second.
        disk: GB/s of the file system, shared by all.
        network: GB/s that a GPU exchanges with others.
        cpu_gflops: 10^9 operations a second of matrix products on the cores of a process.
    """

    tflops: float = 40
    cores: float = 8
    encode: float = 10_000
    prepare: float = 3_000
    disk: float = 2
    network: float = 12.5
    cpu_gflops: float = CPU_GFLOPS


@dataclass(frozen=True)
class Load:
    """What a stage asks for in all; times the GPUs of it work together where a list says so."""

    stage: str
    flop: float = 0.0  # on GPUs, shared
    cpu_flop: float = 0.0  # in one process
    compared: float = 0.0  # FLOP on the processor that all processes share, one for each GPU
    encoded: float = 0.0  # images, on all cores
    prepared: float = 0.0  # images, on all cores
    disk: float = 0.0  # bytes read and written
    steps: float = 0.0
    reduced: float = 0.0  # bytes of gradients, summed in a step
    gathered: float = 0.0  # bytes of embeddings, gathered in a step and their gradients returned

    def hours(self, machine: Machine, gpus: int) -> tuple[float, str]:
        """Return the time of the slowest resource, and which that is."""
        others = (gpus - 1) / gpus
        seconds = {
            "GPU": self.flop / (machine.tflops * 1e12 * gpus),
            "CPU": (self.cpu_flop + self.compared / gpus) / (machine.cpu_gflops * 1e9)
            + (self.encoded / machine.encode + self.prepared / machine.prepare)
            / (machine.cores * gpus),
            "disk": self.disk / (machine.disk * 1e9),
            "network": self.steps
            * others
            * (2 * self.reduced + 2 * self.gathered)
            / (machine.network * 1e9),
        }
        slowest = max(seconds, key=seconds.__getitem__)
        return seconds[slowest] / 3600, slowest


@dataclass(frozen=True)
class Networks:
    """Counted costs of an image."""

    training: Cost
    generation: Cost
    teacher: Cost
    recognizer: Cost


def networks(p: Params) -> Networks:
    """Count the four networks of ``p`` that take the time."""
    return Networks(
        generator_cost(p.generator, p.training.masks.minimum),
        generator_cost(p.generator, p.sampling.masks.minimum),
        backbone_cost("iresnet100"),
        backbone_cost(architecture(p.fr, p.image_size)["name"]),
    )


def loads(p: Params, nets: Networks) -> list[Load]:
    """Return what the stages of ``p`` ask for."""
    found = pipeline_cost(
        p, pca_images=PCA_IMAGES, pca_people=PCA_PEOPLE, benchmark_images=BENCHMARK_IMAGES
    )
    costs = {cost.stage: cost for cost in found}
    faces = p.subset.identities * p.subset.images_per_identity
    made = p.identities * p.images_per_identity
    store = costs["dataset"].disk_bytes
    image = costs["subset"].disk_bytes / faces
    fr = p.fr.epochs * made
    seen = p.training.steps * p.training.batch
    plain = made * nets.generation.forward
    compared = PCA_IMAGES + BENCHMARK_IMAGES
    return [
        Load("features", costs["features"].flop, prepared=faces, disk=faces * image),
        Load(
            "generator",
            costs["generator"].flop,
            prepared=seen,
            disk=seen * image,
            steps=p.training.steps,
            reduced=4.0 * nets.training.parameters,
        ),
        Load("pca", costs["pca"].flop, prepared=PCA_IMAGES, disk=PCA_IMAGES * image),
        Load("identities", cpu_flop=costs["identities"].cpu_flop),
        Load("dataset", plain, encoded=made, disk=2 * store),
        Load("dataset: AttrOP, at most", costs["dataset"].flop - plain),
        Load(
            "recognizer",
            costs["recognizer@generated"].flop,
            prepared=fr,
            disk=fr * image,
            steps=fr / p.fr.batch,
            reduced=4.0 * nets.recognizer.parameters,
            gathered=4.0 * p.fr.embedding * p.fr.batch,
        ),
        Load("measure", costs["measure"].flop),
        Load(
            "labels",
            costs["labels"].flop,
            compared=costs["labels"].cpu_flop,
            prepared=2 * made,
            disk=2 * made * image + costs["labels"].disk_bytes,
        ),
        Load(
            "leaks",
            costs["leaks"].flop,
            compared=costs["leaks"].cpu_flop,
            prepared=compared,
            disk=compared * image,
        ),
        Load("evaluate", costs["evaluate"].flop),
    ]


def sized(p: Params, identities: int) -> Params:
    """Return ``p`` for another number of identities."""
    return p.model_copy(update={"identities": identities})


def pairs_compared(wanted: float) -> tuple[float, float]:
    """Return (candidates, comparisons) of the filter until ``wanted`` vectors are kept.

    A candidate is refused with probability 1 - exp(-p n) when n are kept, if pairs exceed tau
    independently with probability p; the paper's rate of refusal at 300 000 gives p.
    """
    p = 2 * REJECTED / 300_000
    grown = math.exp(p * wanted)
    return (grown - 1) / p, (grown * (p * wanted - 1) + 1) / p**2
