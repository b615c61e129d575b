"""The sharded head is the plain one, however many processes hold it."""

import math
import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from tests import ranks
from vec2face.randomness import stream
from vec2face.recognizers import partial_fc
from vec2face.recognizers.heads import build_head
from vec2face.recognizers.partial_fc import PartialFC, initial_rows, memory, negatives
from vec2face.runtime.files import InputError
from vec2face.runtime.processes import Group, processes

CLASSES, EMBEDDING, BATCH, STEP = 37, 16, 12, 5
CASES = [
    (name, rate, dtype)
    for name in (
        *("arcface", "cosface", "magface", "softmax"),
        *("adaface", "curricularface", "sphereface"),
    )
    for rate, dtype in ((1.0, "float64"), (0.3, "float64"), (0.3, "float32"))
]
CPU = torch.device("cpu")


def batch():
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(BATCH, EMBEDDING, generator=generator, dtype=torch.float64) * 9
    return embeddings, torch.randint(CLASSES, (BATCH,), generator=generator)


def sharded(name, rate, dtype):
    """Two steps of this process's share of a head; what all processes found, on the first."""
    place = processes()
    torch.manual_seed(0)
    with torch.device("meta"):
        rule = build_head(name, EMBEDDING, CLASSES, scale=20)
    head = PartialFC(rule, place, seed=3, sample_rate=rate)
    head.weight, head.momentum = (x.to(getattr(torch, dtype)) for x in (head.weight, head.momentum))
    for name, buffer in rule.named_buffers():
        setattr(rule, name, buffer.to(head.weight.dtype))
    embeddings, labels = batch()
    part = slice(*(BATCH * (place.rank + i) // place.size for i in (0, 1)))
    found = {}
    for step in (STEP, STEP + 1):
        head.begin(step, labels)
        own = embeddings[part].to(head.weight.dtype).requires_grad_()
        loss, value, right = head.loss(own, labels[part])
        loss.backward()
        gradient = head.rows.grad.clone()
        if head.active is not None:
            gradient = torch.zeros_like(head.weight).index_copy(0, head.active, gradient)
        parts = place.gather((value, right, own.grad / place.size, gradient))
        assert len({(v.item(), r.item()) for v, r, _, _ in parts}) == 1  # all processes agree
        head.update(0.5)
        found[step] = {
            "loss": parts[0][0],
            "right": parts[0][1],
            "to embeddings": torch.cat([p[2] for p in parts]),
            "to weights": torch.cat([p[3] for p in parts]),
        } | {key: rows.clone() for key, rows in head.state().items()}
    return found


def write_sharded(path):
    found = [sharded(*case) for case in CASES]
    if processes().main:
        torch.save(found, path)


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    path = tmp_path_factory.mktemp("ranks") / "found.pt"
    assert ranks.finish(ranks.start(write_sharded, path, size=2)) == [0, 0]
    return torch.load(path, weights_only=True)


def plain(name, rate, start):
    """The definition: all logits, angles by arc cosine, classes that sit out at minus infinity."""
    weight, speed = start.clone(), torch.zeros_like(start)
    embeddings, labels = batch()
    found = {}
    norms = embeddings.norm(dim=1)
    running = {"adaface": [20.0, 100.0], "curricularface": [0.0]}.get(name, [])
    for step in (STEP, STEP + 1):
        w, x = weight.clone().requires_grad_(), embeddings.clone().requires_grad_()
        cosine = (x / x.norm(dim=1, keepdim=True)) @ (w / w.norm(dim=1, keepdim=True)).T
        true = cosine[torch.arange(BATCH), labels]
        a = x.norm(dim=1).clamp(10, 110)
        seen = {"adaface": [norms.mean(), norms.std()], "curricularface": [true.detach().mean()]}
        running = [0.99 * r + 0.01 * s for r, s in zip(running, seen.get(name, []), strict=True)]
        if name == "cosface":
            true = true - 0.35
        elif name == "sphereface":
            angle = 1.35 * torch.acos(true)  # below 2 pi
            true = torch.where(angle < math.pi, torch.cos(angle), -torch.cos(angle) - 2)
        elif name == "adaface":
            quality = (0.333 * (norms - running[0]) / (running[1] + 1e-3)).clamp(-1, 1)
            true = torch.cos(torch.acos(true) - 0.4 * quality) - 0.4 * (1 + quality)
        elif name != "softmax":
            margin = 0.45 + (a - 10) / 100 * 0.35 if name == "magface" else 0.5
            assert (torch.acos(true) + margin < math.pi).all()  # not continued
            true = torch.cos(torch.acos(true) + margin)
        if name == "curricularface":
            cosine = torch.where(cosine > true[:, None], cosine * (running[0] + cosine), cosine)
        logits = 20 * cosine
        logits = torch.where(torch.arange(CLASSES) == labels[:, None], 20 * true[:, None], logits)
        active = torch.from_numpy(stream(3, "negatives", step).random(CLASSES) < rate)
        active[labels] = True
        loss = (logits.masked_fill(~active, -math.inf).logsumexp(1) - 20 * true).mean()
        if name == "magface":
            loss = loss + 35 * (a / 110**2 + 1 / a).mean()
        loss.backward()
        best = logits.masked_fill(~active, -math.inf).argmax(1)
        gradient = w.grad + 5e-4 * weight
        speed = torch.where(active[:, None], 0.9 * speed + gradient, speed)
        weight = torch.where(active[:, None], weight - 0.5 * speed, weight)
        found[step] = {
            "loss": loss.detach(),
            "right": (best == labels).sum(),
            "to embeddings": x.grad,
            "to weights": w.grad,
            "weight": weight,
            "momentum": speed,
        }
        if running:
            found[step]["running"] = torch.stack(running)
    return found


@pytest.mark.rounding
@pytest.mark.parametrize("number", range(len(CASES)), ids=map(str, CASES))
def test_two_processes_find_what_one_finds_and_what_the_definition_says(number, of_two):
    name, rate, dtype = CASES[number]
    alone = sharded(name, rate, dtype)
    torch.manual_seed(0)
    start = torch.empty(CLASSES, EMBEDDING).normal_(std=0.01).double()
    defined = plain(name, rate, start)
    close = 1e-9 if dtype == "float64" else 1e-5
    for step, expected in defined.items():
        for key, value in expected.items():
            for found in (alone, of_two[number]):
                error = (found[step][key].double() - value.double()).norm()
                assert error <= close * value.double().norm(), (step, key)


@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 5))
def test_shares_of_the_start_weights_are_cut_from_one_draw(classes, embedding, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(partial_fc, "BLOCK", 16)
        torch.manual_seed(classes)
        whole = torch.nn.init.normal_(torch.empty(classes, embedding), std=0.01)
        after = torch.rand(1)
        parts = []
        for rank in range(size):
            torch.manual_seed(classes)
            share = Group(rank, size, CPU).share(classes)
            parts.append(initial_rows(classes, embedding, share))
            assert torch.equal(torch.rand(1), after)
    assert torch.equal(torch.cat(parts), whole)


@given(st.integers(1, 500), st.integers(1, 7), st.integers(0, 9))
def test_negatives_do_not_depend_on_who_draws_them(classes, size, step):
    shares = [Group(rank, size, CPU).share(classes) for rank in range(size)]
    drawn = torch.cat([negatives(4, step, share, 0.4) for share in shares])
    assert drawn.tolist() == (stream(4, "negatives", step).random(classes) < 0.4).tolist()


def test_a_share_of_the_negatives_takes_part_and_every_positive():
    head = PartialFC(build_head("arcface", 2, 10_000), processes(), seed=0, sample_rate=0.1)
    labels = torch.arange(0, 10_000, 500)
    seen = set()
    for step in range(3):
        head.begin(step, labels)
        active = head.active.tolist()
        assert set(labels.tolist()) <= set(active)
        assert len(active) == pytest.approx(1020, abs=100)  # 3 standard deviations
        seen |= set(active)
    assert len(seen) > 2500


class Live(TorchDispatchMode):
    """The most bytes that tensors made under it have held at once."""

    def __init__(self):
        super().__init__()
        self.known, self.now, self.most = set(), 0, 0

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        result = function(*arguments, **(named or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                self._see(tensor.untyped_storage())
        return result

    def _see(self, storage):
        key, size = storage._cdata, storage.nbytes()
        if key not in self.known:
            self.known.add(key)
            self.now += size
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key, size):
        self.known.discard(key)
        self.now -= size


@pytest.mark.parametrize(("rate", "size"), [(1.0, 96), (1.0, 16), (0.2, 96)])
def test_memory_is_what_a_step_uses(rate, size):
    classes, embedding = 6000, 64
    labels, x = torch.arange(size), torch.randn(size, embedding, requires_grad=True)
    rule = build_head("arcface", embedding, classes)
    with Live() as live:
        head = PartialFC(rule, processes(), seed=0, sample_rate=rate)
        head.begin(0, labels)
        head.loss(x, labels)[0].backward()
        head.update(0.1)
    assert sum(memory(classes, embedding, 1, size, rate).values()) == pytest.approx(
        live.most, rel=0.1
    )


def test_memory_at_the_papers_size():
    parts = memory(300_000, 512, 8, 1024)
    assert parts["weights"] == parts["momentum"] == 300_000 // 8 * 512 * 4
    assert sum(parts.values()) < 1e9
    assert sum(memory(10_000_000, 512, 64, 8192, 0.1).values()) < 4e9


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="sample_rate"):
        PartialFC(build_head("softmax", 2, 5), processes(), seed=0, sample_rate=0)
    with pytest.raises(InputError, match="5 identities .* 6 processes"):
        PartialFC(build_head("softmax", 2, 5), Group(0, 6, CPU), seed=0)
