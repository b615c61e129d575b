import pytest
import torch
from torch import nn

from tests.parameters import PAPER, changed
from vec2face.config.params import Params
from vec2face.generator.masks import masks
from vec2face.generator.network import Vec2Face
from vec2face.planning.cost import (
    CPU_GFLOPS,
    Cost,
    StageCost,
    backbone_cost,
    file_cost,
    generator_cost,
    network_cost,
    pipeline_cost,
)
from vec2face.planning.table import table
from vec2face.recognizers.backbones import build_backbone
from vec2face.recognizers.onnx_export import export


def test_a_convolution_costs_what_the_formula_says():
    cost = network_cost(lambda: nn.Conv2d(3, 5, 3, padding=1), 3, 8, 10)
    forward = 2 * 3 * 5 * 9 * 8 * 10
    assert cost.forward == forward
    assert cost.backward == 2 * forward  # one to the weights, one to the input
    assert cost.parameters == 5 * 3 * 9 + 5
    assert cost.kept == 4 * 3 * 8 * 10  # its input


def test_the_published_size_of_the_networks_is_found_again():
    # arcface_torch states 12.1 and 6.3 GFLOP, counting a multiplication and an addition as one
    assert network_cost(lambda: build_backbone("iresnet100"), 3, 112, 112).forward == pytest.approx(
        2 * 12.1e9, rel=0.01
    )
    assert network_cost(lambda: build_backbone("iresnet50"), 3, 112, 112).forward == pytest.approx(
        2 * 6.3e9, rel=0.01
    )


def test_the_generator_costs_what_running_it_counts():
    p = Params.load("params/smoke.yaml")
    net = Vec2Face(p.generator, 512).eval()
    drop, mask = masks(0, 0, 1, 0.1, 1.0, 0.15)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 512), drop, mask)
    assert generator_cost(p.generator, 0.1).forward == pytest.approx(
        counter.get_total_flops(), rel=0.05
    )


def test_the_papers_run_is_dominated_by_the_generator_and_grows_with_identities():
    p = Params.load("params/paper.yaml")
    costs = {c.stage: c for c in pipeline_cost(p, pca_images=5_800_000, benchmark_images=60_000)}
    assert max(costs.values(), key=lambda c: c.flop).stage == "generator"
    more = p.model_copy(update={"identities": 2 * p.identities})
    grown = {c.stage: c for c in pipeline_cost(more, pca_images=1, benchmark_images=1)}
    assert grown["dataset"].flop == 2 * costs["dataset"].flop
    assert grown["identities"].cpu_flop == 4 * costs["identities"].cpu_flop


def test_attrop_adds_its_steps_and_attempts_to_the_dataset():
    sizes = {"pca_images": 1, "benchmark_images": 1}
    many, few = Cost(7e9, 0, 0, 0), Cost(1e9, 0, 0, 0)

    def dataset(**changes):
        attrop = changed(PAPER.attrop, **changes) if changes else None
        p = PAPER.model_copy(update={"attrop": attrop})
        costs = pipeline_cost(p, **sizes, recognizer=many, estimators=few)
        (found,) = (c.flop for c in costs if c.stage == "dataset")
        return found

    image = generator_cost(PAPER.generator, 0.1).forward
    images = PAPER.identities * PAPER.images_per_identity
    assert dataset() == images * image
    passes = 0.6 * images * 2 * (image + 8e9)  # there and back, of 0.4 and 0.2 of the images
    again = dataset(unconverged="again", attempts=3, steps=30) - dataset()
    assert again == pytest.approx(3 * 31 * passes)
    assert dataset(unconverged="best", attempts=3, steps=9) - dataset() == pytest.approx(
        10 * passes
    )


def test_products_of_the_certificates_take_the_processors_time():
    sizes = {"pca_images": 5000, "benchmark_images": 300}
    costs = {c.stage: c for c in pipeline_cost(PAPER, **sizes)}
    people, made = PAPER.identities, PAPER.identities * PAPER.images_per_identity
    image = backbone_cost("iresnet100").forward
    assert costs["labels"].flop == pytest.approx(2 * made * image)
    assert costs["labels"].cpu_flop == pytest.approx(1024 * people * (3 * made + people))
    assert costs["leaks"].flop == pytest.approx(5300 * image)
    real = PAPER.subset.identities + 5300
    assert costs["leaks"].cpu_flop == pytest.approx(1024 * (made + 2 * people) * real)
    text = table([StageCost("a", 0, cpu_flop=CPU_GFLOPS * 7.2e12)], tflops=1e9)
    assert text.splitlines()[1].split()[:3] == ["a", "0.0", "2.0"]


def test_the_table_sums_work_and_disk_and_takes_the_largest_memory():
    text = table([StageCost("a", 3.6e15, 1e9, 2e9), StageCost("b", 3.6e15, 1e9, 5e9)], tflops=1)
    assert text.splitlines()[-2].split() == ["all", "2.0", "0.0", "2.0", "5.0", "0.0"]


def test_the_table_of_a_short_run_is_in_minutes_and_hides_no_small_amount():
    text = table([StageCost("a", 6e13, 1e6), StageCost("b", 6e11)], tflops=1)
    assert "device minutes" in text
    rows = [line.split() for line in text.splitlines()]
    assert ["a", "1.0", "0.0", "<0.1", "0.0", "0.0"] in rows
    assert ["b", "<0.1", "0.0", "0.0", "0.0", "0.0"] in rows


def test_a_recognizer_costs_what_its_file_says(tmp_path):
    net = build_backbone("iresnet18", image_size=56, embedding=16, widths=(4, 4, 8, 8)).eval()
    for parameter in net.parameters():  # the exporter would share what is equal
        torch.nn.init.normal_(parameter, std=0.1)
    export(net, tmp_path / "a.onnx", 56)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 56, 56))
    cost = file_cost(tmp_path / "a.onnx")
    assert cost.forward == counter.get_total_flops()
    p = Params.load()
    sizes = {"pca_images": 100, "benchmark_images": 10}
    small = {c.stage: c for c in pipeline_cost(p, **sizes, recognizer=cost)}
    large = {c.stage: c for c in pipeline_cost(p, **sizes)}
    assert small["pca"].flop == 100 * cost.forward
    for stage in ("features", "generator", "measure", "evaluate"):
        assert small[stage].flop < large[stage].flop
