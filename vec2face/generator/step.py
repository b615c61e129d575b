"""One step of the generator's training: networks, losses, gradients, update (paper, section 3.1).

Parameters are float32, or PyTorch's default type if it is another. With ``training.precision``
bfloat16 or float16 the generator and the discriminator compute in it where autocast deems that
safe; attention, the losses, LPIPS and the frozen recognizer stay in the parameters' type, as in the
released code.
"""

import copy
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vec2face.config.params import Params
from vec2face.config.sections import Training
from vec2face.generator import losses
from vec2face.generator.batches import Batch, Piece
from vec2face.generator.discriminator import PatchDiscriminator
from vec2face.generator.network import Vec2Face
from vec2face.generator.optimizers import adamw, optimizers, rate
from vec2face.randomness import torch_seed
from vec2face.recognizers.features import open_network
from vec2face.recognizers.statistics import feature_scale
from vec2face.runtime.files import InputError
from vec2face.runtime.parallel import Patience, agree, clip, last_round, synchronised
from vec2face.runtime.processes import Group


class GeneratorRun:
    """Networks, optimisers and one step of their training, on one of several processes.

    Args:
        params: ``generator``, ``training``, ``paths.recognizer``, ``seed``.
        features: (N, D) of all training images.
        group: this process among the others.
    """

    def __init__(self, params: Params, features: np.ndarray, group: Group):
        self.hyper: Training = params.training
        self.losses = params.training.losses
        self.seed, self.group, self.device = params.seed, group, group.device
        on_gpu = group.device.type == "cuda"
        layout = torch.channels_last if on_gpu else torch.preserve_format
        self.dtype = torch.get_default_dtype()
        move: dict[str, Any] = {"device": group.device, "dtype": self.dtype}
        move["memory_format"] = layout

        self.generator = Vec2Face(params.generator, features.shape[1])
        if not self.hyper.released:
            found = group.gather(_statistics(features) if group.main else None)[0]
            self.generator.standardise(*found)
        self.generator.to(**move)
        self.average: Vec2Face | None = None
        if self.hyper.ema:
            self.average = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.optimizers = optimizers(self.generator, self.hyper, on_gpu)
        self.painter = synchronised(self.generator, group, self.hyper.compile)
        self.discriminator: PatchDiscriminator | None = None
        if self.losses.adversarial:
            d = self.hyper.discriminator
            self.discriminator = PatchDiscriminator(
                d.width, d.kernels, released=self.hyper.released
            ).to(**move)
            self.optimizer_d = adamw(self.discriminator.parameters(), d.lr, self.hyper, on_gpu)
            self.judge = synchronised(self.discriminator, group, self.hyper.compile)
        self.recognizer = open_network(params.paths.recognizer).to(**move)
        if self.losses.perceptual and not self.recognizer.tap_sizes:
            raise InputError(
                f"{params.paths.recognizer}: no inner layers found to compare; "
                "set training.losses.perceptual to 0"
            )
        self.lpips = None
        if self.losses.lpips:
            self.lpips = losses.load_lpips(self.hyper.lpips_weights).to(**move)
        kind, precision = group.device.type, getattr(torch, self.hyper.precision)
        self.autocast = torch.autocast(kind, precision, enabled=precision != torch.float32)
        half = precision == torch.float16  # bfloat16 has float32's range
        self.scaler = torch.amp.GradScaler(kind, enabled=half)
        self.patience = Patience("training")

    def step(self, batch: Batch) -> dict[str, float] | None:
        """Take one step.

        Returns:
            The mean of each loss over the batch, unweighted; None if the step was left out because
            a loss or gradient is not finite (``parallel.Patience``).

        Raises:
            InputError: that happened repeatedly.
        """
        progress = batch.step / self.hyper.steps
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self.hyper.lr * rate(batch.step, self.hyper)
        adversary = None if progress < self.hyper.discriminator.start else self.discriminator
        self.generator.zero_grad(set_to_none=True)
        if adversary:
            adversary.zero_grad(set_to_none=True)
            # The generator's loss must not reach it. In the authors' code it does.
            adversary.requires_grad_(self.hyper.released)
        values: dict[int, dict[str, Tensor]] = {}
        pairs: list[tuple[Tensor, Tensor]] = []
        last = batch.pieces[-1].number
        for piece in batch.pieces:
            torch.manual_seed(torch_seed(self.seed, "dropout", batch.step, piece.number))
            with last_round(self.painter, piece.number == last):
                total, values[piece.number], pair = self._generate(piece, progress, adversary)
                self.scaler.scale(total / len(batch.pieces)).backward()
            pairs.append(pair)
        if adversary:
            adversary.requires_grad_(True)
            for piece, pair in zip(batch.pieces, pairs, strict=True):
                with last_round(self.judge, piece.number == last):
                    with self.autocast:
                        logits = [self.judge(images).to(self.dtype) for images in pair]
                    loss = losses.discriminator(*logits)
                    self.scaler.scale(loss / len(batch.pieces)).backward()
                values[piece.number]["discriminator"] = loss
        return self._update(batch, values, adversary)

    def _generate(
        self, piece: Piece, progress: float, adversary: PatchDiscriminator | None
    ) -> tuple[Tensor, dict[str, Tensor], tuple[Tensor, Tensor]]:
        """Return a micro-batch's total loss (equation 3, weighted), each loss, and (real, fake)."""
        count = len(piece.real)
        inputs = (piece.features, piece.drop, piece.mask)
        joined = (torch.cat(pair) for pair in zip(inputs, piece.sampled, strict=True))
        vectors, drop, mask = (x.to(self.device, non_blocking=True) for x in joined)
        real, vectors = piece.real.to(self.device, self.dtype), vectors.to(self.dtype)
        with self.autocast:
            found = self.painter(vectors, drop, mask, with_rows=True)
        drawn, decoded = (x.to(self.dtype) for x in found)
        fake = drawn[:count]
        parts = self._reconstruction(fake, real, vectors[:count], decoded[:count], progress)
        if len(drawn) > count:
            weight = self.losses.sampled * self._ramp(progress)
            seen = self.recognizer(drawn[count:]) if weight else vectors[count:]
            parts["sampled"] = (weight, losses.identity(seen, vectors[count:]))
        total = torch.stack([weight * value for weight, value in parts.values()]).sum()
        values = {name: value for name, (_, value) in parts.items()}
        if adversary:
            with self.autocast:
                logits = adversary(fake)
            loss = losses.adversarial(logits.to(self.dtype))
            balance: float | Tensor = 1.0
            if self.losses.adversarial_adaptive:
                both = self.scaler.scale(total), self.scaler.scale(loss)
                scale, layer = self.scaler.get_scale(), self.generator.last_layer
                balance = losses.adaptive_weight(*both, layer, scale)
            total = total + self.losses.adversarial * balance * loss
            values["adversarial"] = loss
        return total, values, (real, fake.detach())

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
            with torch.no_grad():
                expanded = self.generator.feature_map(features)[1]
            parts["token"] = (w.token, losses.token(decoded, expanded))
        if self.lpips:
            parts["lpips"] = (w.lpips, self.lpips(fake, real).mean())
        identity = w.identity * self._ramp(progress)
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

    def _ramp(self, progress: float) -> float:
        return losses.ramp(progress, self.losses.identity_start, self.losses.identity_full)

    def _update(
        self, batch: Batch, values: dict[int, dict[str, Tensor]], adversary: nn.Module | None
    ) -> dict[str, float] | None:
        """Apply the gradients, or leave the step out if anything is not finite anywhere."""
        optimizers = [*self.optimizers, *([self.optimizer_d] if adversary else [])]
        for optimizer in optimizers:
            self.scaler.unscale_(optimizer)
        networks = {"generator": self.generator} | (
            {"discriminator": adversary} if adversary else {}
        )
        norms = {
            f"gradient of the {name}": clip(network.parameters(), [], self.hyper.clip, self.group)
            for name, network in networks.items()
        }
        names = list(values[batch.pieces[0].number])
        table = torch.zeros(batch.count, len(names), dtype=torch.float64, device=self.device)
        for number, found in values.items():
            table[number] = torch.stack([found[name].detach().double() for name in names])
        table = self.group.sum(table).cpu()  # a row for each micro-batch, whoever computed it
        means = dict(zip(names, table.mean(0).tolist(), strict=True))

        bad = ~table.isfinite().all(1).numpy()
        finite = all(map(math.isfinite, [*means.values(), *norms.values()]))
        taken = agree(self.group, finite)
        scale = self.scaler.get_scale()
        if taken:
            for optimizer in optimizers:
                self.scaler.step(optimizer)
            if self.average:
                self._update_average(self.average, batch.step)
        self.scaler.update()
        if taken:
            return means
        if bad.any() or scale <= 1:  # else float16 overflowed: a matter of the scale, now lower
            images = batch.chosen.reshape(batch.count, -1)
            blamed = images[bad] if bad.any() else images
            self.patience.skip(batch.step, blamed.ravel(), means | norms)
        return None

    @torch.no_grad()
    def _update_average(self, averaged: Vec2Face, step: int) -> None:
        # Early on the average follows quickly, so that it does not remember the initialisation.
        decay = min(self.hyper.ema, (1 + step) / (10 + step))
        pairs = zip(averaged.parameters(), self.generator.parameters(), strict=True)
        for average, current in pairs:
            average.lerp_(current, 1 - decay)

    def result(self) -> Vec2Face:
        """Return the generator, averaged if it is to be, in evaluation mode on the CPU."""
        return (self.average or self.generator).cpu().eval().requires_grad_(False)

    def _members(self) -> dict[str, Any]:
        members: dict[str, Any] = {"generator": self.generator}
        if self.average:
            members["average"] = self.average
        members |= {f"optimizer{i}": member for i, member in enumerate(self.optimizers)}
        if self.discriminator:
            members |= {"discriminator": self.discriminator, "optimizer_d": self.optimizer_d}
        return members | {"scaler": self.scaler, "patience": self.patience}

    def state(self) -> dict[str, Any]:
        """Return all that a continued run needs; the same on every process."""
        return {name: member.state_dict() for name, member in self._members().items()}

    def load(self, state: dict[str, Any]) -> None:
        """Take over what ``state`` returned."""
        for name, member in self._members().items():
            member.load_state_dict(copy.deepcopy(state[name]))  # optimisers keep the tensors


def _statistics(features: np.ndarray) -> tuple[Tensor, float]:
    """Return the mean (D,) and the standard deviation about it, of all dimensions together."""
    return torch.from_numpy(features.mean(0, dtype=np.float64)), feature_scale(features)
