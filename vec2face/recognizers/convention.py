"""What a recognizer's network expects of its input."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from vec2face.runtime.files import InputError


@dataclass(frozen=True)
class Convention:
    """What a network expects of its input; the default is ours.

    Attributes:
        channels: their order.
        mean: taken off x / 255, which is in [0, 1].
        std: what the rest is divided by. Pixels of 0 to 255 are mean 0 and std 1 / 255.
    """

    channels: Literal["rgb", "bgr"] = "rgb"
    mean: float = 0.5
    std: float = 0.5

    def __post_init__(self) -> None:
        """Refuse what cannot be (``ValueError``)."""
        finite = math.isfinite(self.mean) and math.isfinite(self.std)
        if self.channels not in ("rgb", "bgr") or not finite or self.std == 0:
            raise ValueError(f"channels are rgb or bgr, std is not 0; not {self}")

    def __str__(self) -> str:
        """Return one phrase for people."""
        pixels = f"(x / 255 - {self.mean:g}) / {self.std:g}"
        if self.mean == 0:
            pixels = {1.0: "[0, 1]", 1 / 255: "[0, 255]"}.get(self.std, pixels)
        elif (self.mean, self.std) == (0.5, 0.5):
            pixels = "[-1, 1]"
        return f"{self.channels.upper()} in {pixels}"

    def but(self, stated: Mapping[str, Any], where: Path | str) -> Self:
        """Return it with some fields stated otherwise, for the file ``where``.

        Raises:
            InputError: if the result cannot be.
        """
        try:
            return replace(self, **stated)
        except (TypeError, ValueError) as error:
            raise InputError(f"{where}: {error}") from error

    @property
    def scale(self) -> float:
        """What pixels in [-1, 1] are multiplied by, before ``shift`` is added."""
        return 0.5 / self.std

    @property
    def shift(self) -> float:
        """What is added after ``scale``."""
        return (0.5 - self.mean) / self.std
