"""Rows of ``paths`` that use trained networks: features, files, generation, verification."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from benchmarks.gpu import subjects
from benchmarks.gpu.comparing import EXACT, HALF, LATER_TF32, TF32, apart, exactly, verdict
from benchmarks.gpu.runner import Figures
from benchmarks.gpu.subjects import drawn
from vec2face.dataset.generate import generate, generate_images
from vec2face.dataset.perturbation import Perturbation
from vec2face.evaluation.verification import evaluate
from vec2face.faces.images import resize, to_tensor
from vec2face.faces.store import FaceStore
from vec2face.generator.inference import arrange_for_inference
from vec2face.generator.network import Vec2Face
from vec2face.identities.cosines import largest_cosine
from vec2face.identities.filter import GreedyFilter
from vec2face.identities.nearest import Crowd, nearest
from vec2face.recognizers.backbones import architecture
from vec2face.recognizers.features import NetworkRecognizer, open_network
from vec2face.recognizers.network import embed, untrained_recognizer
from vec2face.recognizers.onnx import OnnxRecognizer
from vec2face.recognizers.onnx_export import export
from vec2face.runtime.processes import processes


def painter(place: Path, tiny: bool) -> Vec2Face:
    """Return the small generator on the CPU, its images spread over the range of pixels."""
    net = subjects.generator(subjects.small_params(place, tiny=tiny))
    with torch.no_grad():
        spread = net(torch.from_numpy(subjects.vectors(8)), *drawn(0, 8)).std()
        net.to_image.out.weight.mul_(0.4 / spread)
    return net


def generation_like_cpu(place: Path, tiny: bool) -> Figures:
    """Compare generated pixels with the CPU's."""
    net, rows = painter(place, tiny), subjects.vectors(64)
    wanted = generate_images(net, rows, drawn).astype(int)
    net.to(processes().device)
    with exactly():
        exact = np.abs(generate_images(net, rows, drawn).astype(int) - wanted)
    default = np.abs(generate_images(net, rows, drawn).astype(int) - wanted)
    return verdict(
        levels_apart=(int(exact.max()), 1),
        levels_apart_with_tf32=(int(default.max()), 2),
        pixels_apart_with_tf32=(float((default > 0).mean()), 0.25),
    ) | {"spread_of_pixels": float(wanted.std())}


def identities_like_float64(tiny: bool) -> Figures:
    """Compare the kept set, the nearest strangers and the largest cosine with float64's."""
    count, width, tau = (400, 70, 0.35) if tiny else (9000, 500, 0.16)
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(count, width)) * 0.995 ** np.arange(width)).astype(np.float32)
    unit = rows / np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True)
    gram = unit @ unit.T
    kept: list[int] = []
    for i in range(count):
        if not kept or gram[i, kept].max() <= tau:
            kept.append(i)
    found = np.flatnonzero(GreedyFilter(tau, width, count).add(rows))
    labels = rng.integers(0, count // 3, count)
    value, place = nearest(rows, Crowd.of(rows, labels), labels)
    largest = largest_cosine(rows)
    strangers = np.where(labels[:, None] == labels[None], -2, gram)
    above = np.triu(gram, 1)
    wanted = np.unravel_index(above.argmax(), above.shape)
    return verdict(
        kept_otherwise=(float(len(set(kept) ^ set(found.tolist()))), 0),
        strangers_otherwise=(float((place != strangers.argmax(1)).sum()), 0),
        strangers_apart=(float(np.abs(value - strangers.max(1)).max()), 1e-12),
        largest_otherwise=(float(largest[1:] != wanted), 0),
    ) | {"kept": len(kept), "of": count}


def dataset(place: Path, tiny: bool) -> Figures:
    """Generate a store as the stage does, from a generator arranged as there."""
    net = painter(place, tiny).to(processes().device)
    net = arrange_for_inference(net)
    identities = subjects.vectors(8)
    perturbation = Perturbation(0, 16, [0.3, 0.5, 0.7], [0.4, 0.4, 0.2], 0.5, 1.0)
    with TemporaryDirectory() as folder:
        store, vectors = Path(folder, "store"), Path(folder, "vectors.npy")
        about = {"work": Path(folder, "work"), "made_by": "benchmarks/gpu"}
        made = generate(net, identities, perturbation, drawn, store=store, vectors=vectors, **about)
        found = len(FaceStore(store).verify())
    return verdict(images_missing=(abs(128 - found), 0)) | made


def arrangement(place: Path, tiny: bool) -> Figures:
    """On a card the arrangement for inference leaves a generator as it is, in every precision."""
    figures = {}
    inputs = [torch.from_numpy(subjects.vectors(4)), *drawn(0, 4)]
    inputs = [x.to(processes().device) for x in inputs]
    kinds = ("float32", "bfloat16", "float16")
    for kind in kinds if processes().device.type == "cuda" else kinds[:1]:
        net = painter(place, tiny).to(processes().device)
        half = torch.autocast(
            processes().device.type, getattr(torch, kind), enabled=kind != "float32"
        )
        with torch.inference_mode(), half:
            wanted = net(*inputs).float().cpu()
            found = arrange_for_inference(net)(*inputs).float().cpu()
        figures[kind] = (apart(found, wanted), 1e-5 if kind == "float32" else HALF)
    return verdict(**figures)


def features_like_cpu(place: Path, tiny: bool) -> Figures:
    """Compare the features of a network on the card with those on the CPU."""
    images = subjects.faces(32, 112)
    net = subjects.open_teacher(place, tiny=tiny).cpu()
    wanted = embed(net, images)
    recognizer = NetworkRecognizer(net)
    with exactly():
        exact = apart(recognizer.features(images), wanted)
    default = apart(recognizer.features(images), wanted)
    return verdict(exact=(exact, EXACT), with_tf32=(default, LATER_TF32))  # a hundred layers


def file_like_onnxruntime(path: Path) -> Figures:
    """Compare an ONNX file's PyTorch form on the card with onnxruntime on the CPU."""
    images = subjects.faces(24, 112)
    runtime = OnnxRecognizer(path)
    wanted = runtime.features(images)
    net = open_network(path).to(processes().device)
    pictures = np.stack([resize(image, net.input_size) for image in images])
    x = to_tensor(pictures).to(processes().device).requires_grad_()
    with exactly():
        found = net(x)
        (gradient,) = torch.autograd.grad(found.sum(), x)
    default = net(x).detach().cpu()
    figures = verdict(
        exact=(apart(found.detach().cpu(), wanted), EXACT),
        with_tf32=(apart(default, wanted), TF32),
        gradient_not_finite=(int((~gradient.isfinite()).sum()), 0),
    )
    return figures | {"providers": str(runtime._session.get_providers())}  # noqa: SLF001


def exported(place: Path, tiny: bool) -> Figures:
    """Export a network that lies on the card, and compare the file with it."""
    net = subjects.open_teacher(place, tiny=tiny)
    images = subjects.faces(4, net.image_size)  # type: ignore[arg-type]
    with TemporaryDirectory() as folder, exactly():
        export(net, Path(folder, "net.onnx"), net.image_size)  # type: ignore[arg-type]
        found = OnnxRecognizer(Path(folder, "net.onnx")).features(images)
        return verdict(exact=(apart(found, embed(net, images)), EXACT))


def untrained(place: Path, tiny: bool) -> Figures:
    """Compare the untrained network's embeddings, made as the evaluation makes them."""
    params = subjects.small_params(place, tiny=tiny)
    images = subjects.faces(64, params.image_size)
    net = untrained_recognizer(architecture(params.fr, params.image_size), images, 0)
    wanted = embed(net, images)
    net.to(processes().device)
    with exactly():
        exact = apart(embed(net, images), wanted)
    return verdict(exact=(exact, EXACT), with_tf32=(apart(embed(net, images), wanted), TF32))


def verification(place: Path, tiny: bool) -> Figures:
    """Verify pairs on the card and on the CPU."""
    benchmark = subjects.benchmark(80, 112)
    net = subjects.open_teacher(place, tiny=tiny)
    with exactly():
        found = evaluate(partial(embed, net), benchmark)
    net.cpu()
    wanted = evaluate(partial(embed, net), benchmark)
    return verdict(
        accuracy_apart=(abs(found.accuracy - wanted.accuracy), 0.0125),
        distances_apart=(apart(found.distances, wanted.distances), EXACT),
    ) | {"accuracy": found.accuracy}
