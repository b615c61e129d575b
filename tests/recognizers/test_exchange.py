"""Processes that share a micro-batch compute what one process with all of its images computes."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

from tests import ranks
from vec2face.recognizers.exchange import exchange
from vec2face.recognizers.iresnet import IResNet
from vec2face.recognizers.vit import FaceTransformer
from vec2face.runtime.processes import Group, processes

ROWS, STEPS = 6, 2
LAYOUTS = {"plain": torch.contiguous_format, "last": torch.channels_last}


def networks():
    """One of each kind of batch norm and dropout, in float64."""
    torch.manual_seed(0)
    iresnet = IResNet((1, 1, 1, 1), (4, 8, 8, 8), 6, 16, "residual", dropout=0.4)
    transformer = FaceTransformer(16, 2, image_size=18, embedding=6)
    last = transformer.body.blocks[1]
    last.drop_path1.drop_prob = last.drop_path2.drop_prob = 0.5
    for net in (iresnet, transformer):
        for p in net.parameters():  # weights that are all one hide mistakes
            nn.init.normal_(p, 0.5 if p.ndim == 1 else 0.0, 0.2)
    return {"iresnet": iresnet.double().train(), "transformer": transformer.double().train()}


def compute(group):
    """Outputs and gradients of this group's rows, and the state, for each network and layout."""
    found = {}
    for layout, memory in LAYOUTS.items():
        for name, net in networks().items():
            if group.size > 1:
                exchange(net, group)
            net = net.to(memory_format=memory)
            draw = torch.Generator().manual_seed(1)
            own = slice(ROWS * group.rank // group.size, ROWS * (group.rank + 1) // group.size)
            for step in range(STEPS):
                x, wanted = (
                    torch.randn(ROWS, *shape, generator=draw, dtype=torch.float64)
                    for shape in ((3, net.image_size, net.image_size), (6,))
                )
                x = (x + 3)[own].contiguous(memory_format=memory).requires_grad_()
                torch.manual_seed(step)
                y = net(x)
                net.zero_grad()
                (y * wanted[own]).sum().backward()
                parts = group.gather((y.detach(), x.grad, [p.grad for p in net.parameters()]))
                key = name, layout, step
                found[(*key, "output")] = torch.cat([part[0] for part in parts])
                found[(*key, "to images")] = torch.cat([part[1] for part in parts])
                for (parameter, _), *grads in zip(
                    net.named_parameters(), *(part[2] for part in parts), strict=True
                ):
                    if grads[0] is not None:
                        found[(*key, parameter)] = torch.stack(grads).sum(0)
                found |= {(*key, b): value.clone() for b, value in net.named_buffers()}
            net.eval()
            found[(name, layout, "evaluation")] = net(x.new_ones(2, *x.shape[1:])).detach()
            found[(name, layout, "names")] = list(net.state_dict())
    return found


def write(path):
    torch.set_num_threads(1)
    found = compute(processes())
    if processes().main:
        torch.save(found, path)


@pytest.fixture
def group_of_one():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield Group(0, 1, torch.device("cpu"))
    dist.destroy_process_group()


def test_in_half_precision_it_errs_no_more_than_pytorchs_batch_norm(group_of_one):
    """Maps in bfloat16, statistics and weights in float32, as autocast has them."""
    found = {}
    for exchanged, half in ((False, False), (False, True), (True, True)):
        net = networks()["iresnet"].float().to(memory_format=torch.channels_last)
        if exchanged:
            exchange(net, group_of_one)
        draw = torch.Generator().manual_seed(1)
        images, wanted = (
            torch.randn(ROWS, *shape, generator=draw) for shape in ((3, 16, 16), (6,))
        )
        torch.manual_seed(0)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            features = net(images.contiguous(memory_format=torch.channels_last))
        (features.float() * wanted).sum().backward()
        gradients = [p.grad.flatten() for p in net.parameters() if p.grad is not None]
        found[exchanged, half] = torch.cat([*gradients, *(b.flatten() for b in net.buffers())])
    exact = found[False, False]
    theirs, ours = ((found[e, True] - exact).norm() / exact.norm() for e in (False, True))
    assert 0 < ours < 1.5 * theirs


@pytest.mark.parametrize("size", [2, 6])
def test_several_processes_compute_what_one_computes(tmp_path, size):
    """Outputs, gradients, running statistics; one row a process is enough."""
    assert ranks.finish(ranks.start(write, tmp_path / "found.pt", size=size)) == [0] * size
    found, alone = torch.load(tmp_path / "found.pt"), compute(Group(0, 1, torch.device("cpu")))
    assert found.keys() == alone.keys()
    for key, expected in alone.items():
        if isinstance(expected, list):
            assert found[key] == expected
        else:
            torch.testing.assert_close(found[key], expected, rtol=1e-9, atol=1e-9, msg=str(key))
