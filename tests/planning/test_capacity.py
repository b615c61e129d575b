"""The capacity plan: closed forms of the paper's networks, and of what holds a stage up."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.capacity import MARKS, report
from vec2face.config.params import Params
from vec2face.generator.network import Vec2Face
from vec2face.planning.capacity import Load, Machine, loads, networks, pairs_compared, sized
from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.heads import build_head

MICRO_BATCH = 32
CLASSES = 300_000


@pytest.fixture(scope="module")
def paper():
    return Params.load("params/paper.yaml")


def counted(run):
    with FlopCounterMode(display=False) as counter:
        result = run()
    return counter.get_total_flops() / MICRO_BATCH, result


def conv(inputs, outputs, side, kernel=3):
    """(parameters without bias, FLOP) of a convolution that gives a map of ``side``."""
    weights = inputs * outputs * kernel**2
    return weights, 2 * weights * side**2


def add(*pairs):
    return tuple(map(sum, zip(*pairs, strict=True)))


def generator_by_hand():
    """(parameters, FLOP an image) of the ViT-Base generator in generation: 5 of 49 rows dropped."""
    width, rows, kept = 768, 50, 50 - math.ceil(49 * 0.1)
    linear = 12 * width**2  # of a block: queries, keys, values, projection, and 4 + 4 in the MLP
    block = linear + (3 + 1 + 4 + 1) * width + 4 * width  # biases; two LayerNorms
    parameters = 20 * block + 3 * 2 * width  # blocks; LayerNorms of the input, encoder, decoder
    parameters += (512 + 1) * width + 2 * 49 + 2 * rows * width  # embed, expand, positions
    parameters += (width + 1) * width + (width + 1) * 256  # to the decoder, to the map
    flop = 2 * width * 512 + 2 * 49 * width + 2 * kept * width**2 + 2 * 49 * width * 256
    for blocks, length in ((12, kept), (8, rows)):
        flop += blocks * (2 * length * linear + 2 * 2 * length**2 * width)

    current, side, norms, image = 512, 7, 0, conv(256, 512, 7)
    biases = 512
    for _ in range(2):
        image = add(image, conv(512, 512, 7), conv(512, 512, 7))
        norms += 2 * 2 * 512
    for level, after in enumerate((512, 256, 256, 128, 128)):
        for _ in range(2):
            image = add(image, conv(current, after, side), conv(after, after, side))
            if current != after:
                image = add(image, conv(current, after, side, 1))
            norms += 2 * current + 2 * after
            current = after
        if level < 4:
            side *= 2
            image = add(image, conv(current, current, side))
            biases += current
    image = add(image, conv(128, 3, 112))
    return parameters + image[0] + biases + 3 + norms + 2 * 128, flop + image[1]


def test_the_generator_has_the_closed_forms_size_and_cost(paper, monkeypatch):
    with torch.device("meta"):
        generator = Vec2Face(paper.generator, 512).eval()
        features = torch.empty(MICRO_BATCH, 512)
        mask = torch.empty(MICRO_BATCH, 49, dtype=torch.bool)
    # The one value that a forward pass reads: how many rows are dropped.
    monkeypatch.setattr(torch.Tensor, "__int__", lambda tensor: 5)
    parameters, flop = generator_by_hand()
    found, images = counted(lambda: generator(features, mask, mask))
    assert images.shape == (MICRO_BATCH, 3, 112, 112)
    assert sum(p.numel() for p in generator.parameters()) == parameters
    assert 4 * parameters == pytest.approx(0.68e9, abs=0.03e9)  # the paper's size
    assert found == flop == pytest.approx(49.2e9, rel=0.005)
    backward, _ = counted(lambda: images.sum().backward())
    assert backward == pytest.approx(2 * flop, rel=0.01)  # none to the features


def recognizer_by_hand():
    """(parameters, FLOP an image) of SE-IResNet-50 at 112 pixels."""
    total, side, inputs = add(conv(3, 64, 112), (2 * 64 + 64, 0)), 112, 64
    for depth, width in zip((3, 4, 14, 3), (64, 128, 256, 512), strict=True):
        for number in range(depth):
            total = add(total, conv(inputs, width, side))
            side //= 1 if number else 2
            total = add(total, conv(width, width, side))
            norms = 2 * inputs + 2 * width + 2 * width + width  # and PReLU
            gate = 2 * width * (width // 16)
            total = add(total, (norms + gate + width // 16 + width, 2 * gate))
            if not number:
                total = add(total, conv(inputs, width, side, 1), (2 * width, 0))
            inputs = width
    flat = 512 * 7 * 7
    return add(total, (2 * 512 + (flat + 1) * 512 + 2 * 512, 2 * flat * 512))


def test_the_recognizer_and_its_300_000_classes_have_the_closed_forms_size_and_cost(monkeypatch):
    # Without data, every label counts as this process's.
    monkeypatch.setattr("torch.fx.experimental._config.meta_nonzero_assume_all_nonzero", True)
    with torch.device("meta"):
        net = build_backbone("se_iresnet50").train()
        head = build_head("arcface", 512, CLASSES)
        faces = torch.empty(MICRO_BATCH, 3, 112, 112)
        labels = torch.empty(MICRO_BATCH, dtype=torch.int64)
    parameters, flop = recognizer_by_hand()
    assert sum(p.numel() for p in net.parameters()) == parameters
    assert sum(p.numel() for p in head.parameters()) == CLASSES * 512

    def loss():
        logits, penalty = head(net(faces), labels)
        assert logits.shape == (MICRO_BATCH, CLASSES)
        return nn.functional.cross_entropy(logits, labels) + penalty

    forward, value = counted(loss)
    assert forward == flop + 2 * 512 * CLASSES
    backward, _ = counted(value.backward)
    first = conv(3, 64, 112)[1]  # no gradient to the faces
    assert backward == 2 * forward - first


def test_the_plan_counts_the_same_networks(paper):
    nets = networks(paper)
    assert nets.generation.forward == pytest.approx(generator_by_hand()[1], rel=0.01)
    assert nets.recognizer.forward == recognizer_by_hand()[1]
    assert nets.recognizer.parameters == recognizer_by_hand()[0]
    of = {load.stage: load for load in loads(sized(paper, CLASSES), nets)}
    images = CLASSES * 50
    assert of["dataset"].flop == images * nets.generation.forward
    assert of["identities"].cpu_flop == CLASSES**2 / 2 * 512 * 2
    # Both certificates have their share of the processor, which all processes share.
    assert of["labels"].compared == 1024 * CLASSES * (3 * images + CLASSES)
    assert of["leaks"].compared == 1024 * (images + 2 * CLASSES) * (50_000 + 85_742 + 60_000)
    assert of["labels"].flop == images * 2 * nets.teacher.forward
    # Three images in five are AttrOP's, up to 93 times there and back through four networks.
    assert of["dataset: AttrOP, at most"].flop > 0.6 * images * 93 * 2 * of["dataset"].flop / images
    fr = nets.recognizer.forward + nets.recognizer.backward + 3 * 2 * 512 * CLASSES
    assert of["recognizer"].flop == pytest.approx(26 * images * fr)


def test_a_stage_is_as_slow_as_its_slowest_resource():
    machine = Machine(tflops=1, cores=2, encode=100, prepare=50, disk=1, network=1, cpu_gflops=1)
    assert Load("a", flop=7.2e15).hours(machine, 2) == (1.0, "GPU")
    assert Load("a", flop=1e12, encoded=720_000).hours(machine, 1) == (1.0, "CPU")
    assert Load("a", encoded=720_000, prepared=360_000).hours(machine, 4) == (0.5, "CPU")
    assert Load("a", cpu_flop=3.6e12).hours(machine, 64) == (1.0, "CPU")
    assert Load("a", compared=3.6e12).hours(machine, 4) == (0.25, "CPU")
    assert Load("a", disk=3.6e12, flop=1e12).hours(machine, 64) == (1.0, "disk")
    exchanged = Load("a", steps=1800, reduced=1e9, gathered=1e9)
    assert exchanged.hours(machine, 1)[0] == 0
    assert exchanged.hours(machine, 2) == (1.0, "network")  # 2 * 1/2 * 2 GB in each of 1800 steps


def test_the_filters_comparisons_are_those_of_a_simulation():
    p = 2 * 0.017 / 300_000
    wanted, kept, candidates, compared = 20_000_000, 0.0, 0.0, 0.0
    for part in np.diff(np.linspace(0, wanted, 20_001)):
        drawn = part * math.exp(p * (kept + part / 2))
        compared += drawn * (kept + part / 2)
        candidates, kept = candidates + drawn, kept + part
    assert pairs_compared(wanted) == pytest.approx((candidates, compared), rel=1e-6)
    assert pairs_compared(300_000)[0] * 0.983 == pytest.approx(300_000, rel=1e-3)


def test_the_page_holds_what_the_script_prints():
    between = Path("docs/scale.md").read_text().split(MARKS[0])[1].split(MARKS[1])[0]
    assert between.strip() == report(Machine()), (
        "python -m benchmarks.capacity --write docs/scale.md"
    )
