"""Training of the generator: faces and their features in, a generator out (paper section 3.2).

A killed run continues from its last checkpoint and ends in the same weights, bit by bit on a CPU
with the same number of threads: order, masks and dropout of a step follow from seed and step alone.
"""

import copy
import functools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from vec2face.faces.images import to_tensor
from vec2face.files import InputError
from vec2face.models.discriminator import PatchDiscriminator
from vec2face.models.features import open_network
from vec2face.models.generator import GeneratorConfig, Vec2Face
from vec2face.models.masks import masks
from vec2face.params import Params, Training
from vec2face.randomness import stream, torch_seed
from vec2face.training import losses
from vec2face.training.checkpoint import Checkpoint
from vec2face.training.muon import Muon

VERSION = 1  # part of the checkpoint's fingerprint: raise it when a step computes something else


def train_generator(
    images: np.ndarray,
    features: np.ndarray,
    params: Params,
    work: Path | str,
    *,
    on_log: Callable[[dict[str, float]], None] | None = None,
    log_every: int = 20,
) -> Vec2Face:
    """Train a generator.

    Args:
        images: uint8 (N, S, S, 3), S = ``params.image_size``.
        features: float32 (N, D), the recognizer's features of these images, not normalised.
        params: ``generator``, ``training``, ``paths.recognizer``, ``seed``.
        work: folder for this run's checkpoints, one for each fingerprint.
        on_log: called every ``log_every`` steps with ``step`` and the mean of each loss since;
            when a run continues, its earlier entries are reported again first.
        log_every: steps.

    Returns:
        The generator in evaluation mode (the averaged weights if ``training.ema`` > 0), on the CPU.

    Raises:
        ValueError: images and features do not match.
        FloatingPointError: a loss is not finite; names the step and the images.
    """
    if len(images) != len(features) or len(images) < params.training.batch:
        raise ValueError(
            f"{len(images)} images, {len(features)} features: equally many, at least one batch "
            f"({params.training.batch})"
        )
    hyper, targets = params.training, torch.from_numpy(features)
    with torch.random.fork_rng():
        torch.manual_seed(torch_seed(params.seed, "generator"))
        run = GeneratorRun(params, features)
        checkpoint = Checkpoint(work)
        first, history, sums = 0, [], {}  # type: ignore[var-annotated]
        if saved := checkpoint.load():
            first, state = saved
            run.load(state["run"])
            history, sums = state["history"], state["sums"]
        for entry in history if on_log else ():
            on_log(entry)  # type: ignore[misc]
        bar = tqdm(total=hyper.steps, initial=first, unit="step", disable=None)
        for step in range(first, hyper.steps):
            chosen = batch_indices(params.seed, step, hyper.batch, len(images))
            drop, mask = draw_masks(params, step)
            torch.manual_seed(torch_seed(params.seed, "dropout", step))
            values = run.step(step, to_tensor(images[chosen]), targets[chosen], drop, mask)
            if not all(map(math.isfinite, values.values())):
                raise FloatingPointError(
                    f"step {step}: losses {values} on images {chosen.tolist()}; the last good "
                    f"state is in {work}: lower training.lr, or remove the images"
                )
            sums = {name: sums.get(name, 0.0) + value for name, value in values.items()}
            bar.update()
            done = step + 1
            if done % log_every == 0 or done == hyper.steps:
                count = (done - 1) % log_every + 1
                entry = {"step": done} | {name: total / count for name, total in sums.items()}
                history.append(entry)
                bar.set_postfix(mse=entry["mse"])
                if on_log:
                    on_log(entry)
                sums = {}
            if done % hyper.checkpoint_every == 0 or done == hyper.steps:
                checkpoint.save(done, {"run": run.state(), "history": history, "sums": sums})
        bar.close()
    return run.result()


class GeneratorRun:
    """Networks, optimisers and one step of their training."""

    def __init__(self, params: Params, features: np.ndarray):
        self.hyper: Training = params.training
        self.losses = params.training.losses
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        sizes = params.generator.model_dump() | {"channels": tuple(params.generator.channels)}
        config = GeneratorConfig(features=features.shape[1], image_size=params.image_size, **sizes)
        self.generator = Vec2Face(config)
        mean = features.mean(0, dtype=np.float64)
        self.generator.standardise(
            torch.from_numpy(mean), float((features - mean).std(dtype=np.float64))
        )
        self.generator.to(self.device)
        self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.optimizers = _optimizers(self.generator, self.hyper)
        self.discriminator: PatchDiscriminator | None = None
        if self.losses.adversarial:
            d = self.hyper.discriminator
            self.discriminator = PatchDiscriminator(d.width, tuple(d.kernels)).to(self.device)
            self.optimizer_d = _adamw(self.discriminator.parameters(), d.lr, self.hyper)
        self.recognizer = open_network(params.paths.recognizer).to(self.device)
        if self.losses.perceptual and not self.recognizer.tap_sizes:
            raise InputError(
                f"{params.paths.recognizer}: no inner layers found to compare; "
                "set training.losses.perceptual to 0"
            )
        self.lpips = losses.load_lpips(self.hyper.lpips_weights) if self.losses.lpips else None

    def step(
        self, step: int, real: Tensor, features: Tensor, drop: Tensor, mask: Tensor
    ) -> dict[str, float]:
        """Take one step; return each loss, unweighted.

        Args:
            step: from 0; learning rate and ramps follow from it.
            real: (B, 3, S, S) in [-1, 1].
            features: (B, D).
            drop: (B, 49) bool.
            mask: (B, 49) bool.
        """
        progress = step / self.hyper.steps
        real, features = real.to(self.device), features.to(self.device)
        drop, mask = drop.to(self.device), mask.to(self.device)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.hyper.lr * _rate(step, self.hyper)
        decoded = self.generator.rows(features, drop, mask)
        fake = self.generator.paint(decoded)
        parts = self._reconstruction(fake, real, features, decoded, progress)
        total = torch.stack([weight * value for weight, value in parts.values()]).sum()
        values = {name: value.item() for name, (_, value) in parts.items()}

        adversary = None if progress < self.hyper.discriminator.start else self.discriminator
        if adversary:
            adversary.requires_grad_(False)  # the generator's loss must not reach it
            loss = losses.adversarial(adversary(fake))
            balance: float | Tensor = 1.0
            if not self.generator.config.released:
                balance = losses.adaptive_weight(total, loss, self.generator.last_layer)
            total = total + self.losses.adversarial * balance * loss
            values["adversarial"] = loss.item()
        self.generator.zero_grad(set_to_none=True)
        total.backward()
        nn.utils.clip_grad_norm_(self.generator.parameters(), self.hyper.clip)
        for optimizer in self.optimizers:
            optimizer.step()
        self._update_average(step)
        if adversary:
            values["discriminator"] = self._step_discriminator(adversary, real, fake.detach())
        return values

    def _reconstruction(
        self, fake: Tensor, real: Tensor, features: Tensor, decoded: Tensor, progress: float
    ) -> dict[str, tuple[float, Tensor]]:
        """Return {name: (weight, loss)} of all losses but the adversarial one."""
        w = self.losses
        parts = {"mse": (w.mse, losses.mse(fake, real))}
        if w.gradient:
            parts["gradient"] = (w.gradient, losses.gradient(fake, real))
        if w.ssim:
            parts["ssim"] = (w.ssim, losses.ssim(fake, real))
        if w.token:
            expanded = self.generator.feature_map(features)[1]
            parts["token"] = (w.token, losses.token(decoded, expanded))
        if self.lpips:
            parts["lpips"] = (w.lpips, self.lpips(fake, real))
        identity = w.identity * losses.ramp(progress, w.identity_start, w.identity_full)
        if identity or w.perceptual:
            seen = max(1, round(len(fake) * w.recognizer_share))
            found, inner = self.recognizer.forward_with_taps(fake[:seen])
            if identity:
                parts["identity"] = (identity, losses.identity(found, features[:seen]))
            if w.perceptual:
                with torch.no_grad():
                    _, wanted = self.recognizer.forward_with_taps(real[:seen])
                parts["perceptual"] = (w.perceptual, losses.perceptual(inner, wanted))
        return parts

    def _step_discriminator(
        self, adversary: PatchDiscriminator, real: Tensor, fake: Tensor
    ) -> float:
        adversary.requires_grad_(True)
        loss = losses.discriminator(adversary(real), adversary(fake))
        self.optimizer_d.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(adversary.parameters(), self.hyper.clip)
        self.optimizer_d.step()
        return loss.item()

    @torch.no_grad()
    def _update_average(self, step: int) -> None:
        # Early on the average follows quickly, so that it does not remember the initialisation.
        decay = min(self.hyper.ema, (1 + step) / (10 + step))
        pairs = zip(self.average.parameters(), self.generator.parameters(), strict=True)
        for average, current in pairs:
            average.lerp_(current, 1 - decay)

    def result(self) -> Vec2Face:
        """Return the averaged generator, in evaluation mode on the CPU."""
        return self.average.cpu().eval()

    def _members(self) -> dict[str, Any]:
        members: dict[str, Any] = {"generator": self.generator, "average": self.average}
        members |= {f"optimizer{i}": member for i, member in enumerate(self.optimizers)}
        if self.discriminator:
            members |= {"discriminator": self.discriminator, "optimizer_d": self.optimizer_d}
        return members

    def state(self) -> dict[str, Any]:
        """Return all that a continued run needs."""
        return {name: member.state_dict() for name, member in self._members().items()}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned."""
        for name, member in self._members().items():
            member.load_state_dict(state[name])


def batch_indices(seed: int, step: int, batch: int, count: int) -> np.ndarray:
    """Return the images of a step: an endless row of shuffled epochs, cut into batches."""
    place = np.arange(step * batch, (step + 1) * batch)
    chosen = np.empty(batch, np.int64)
    for epoch in np.unique(place // count):
        here = place // count == epoch
        chosen[here] = _order(seed, int(epoch), count)[place[here] % count]
    return chosen


@functools.lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    return stream(seed, "generator order", epoch).permutation(count)


def draw_masks(params: Params, step: int) -> tuple[Tensor, Tensor]:
    """Return (drop, mask) of a training step."""
    batch, m = params.training.batch, params.training.masks
    return masks(
        params.seed,
        step * batch,
        batch,
        m.minimum,
        m.maximum,
        m.mean,
        purpose="training mask",
        ratio_shared_by=batch if params.generator.released else 1,
    )


def _rate(step: int, hyper: Training) -> float:
    """Linear warm-up, then half a cosine to zero."""
    if step < hyper.warmup:
        return (step + 1) / hyper.warmup
    done = (step - hyper.warmup) / max(1, hyper.steps - hyper.warmup)
    return 0.5 * (1 + math.cos(math.pi * done))


def _optimizers(generator: Vec2Face, hyper: Training) -> list[torch.optim.Optimizer]:
    """AdamW for all, or Muon for the blocks' matrices and AdamW for the rest."""
    if hyper.optimizer == "adamw":
        return [_adamw(generator.parameters(), hyper.lr, hyper)]
    blocks = [*generator.encoder.parameters(), *generator.decoder.parameters()]
    matrices = [p for p in blocks if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    rest = [p for p in generator.parameters() if id(p) not in chosen]
    return [
        _adamw(rest, hyper.lr, hyper),
        Muon(matrices, hyper.lr, weight_decay=hyper.weight_decay),
    ]


def _adamw(parameters: Iterable[nn.Parameter], lr: float, hyper: Training) -> torch.optim.AdamW:
    """AdamW; weight decay on matrices and filters only."""
    parameters = list(parameters)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1]},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=hyper.betas, weight_decay=hyper.weight_decay)
