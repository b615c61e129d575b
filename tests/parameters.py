"""Parameters for tests: those of a shipped file, with some keys changed."""

from pathlib import Path
from typing import Any, TypeVar

from vec2face.config.params import Params
from vec2face.config.sections import Section

ROOT = Path(__file__).parents[1]
SMOKE = Params.load(ROOT / "params/smoke.yaml")
PAPER = Params.load(ROOT / "params/paper.yaml")
S = TypeVar("S", bound=Section)


def changed(section: S, **values: Any) -> S:
    """Return a section with other values: ``changed(SMOKE, training__losses__mse=2.0)``."""
    content = section.model_dump()
    for key, value in values.items():
        *path, last = key.split("__")
        inner = content
        for name in path:
            inner = inner[name]
        if last not in inner:
            raise KeyError(key)
        inner[last] = value
    return type(section).model_validate(content)


TINY = changed(
    PAPER.generator,
    width=16,
    decoder_width=24,
    encoder_blocks=2,
    encoder_heads=2,
    decoder_blocks=1,
    decoder_heads=3,
    front_channels=8,
    channels=(4, 8),
    groups=4,
    position_std=0.5,
)
"""A generator of images of 14 pixels."""

NONE = changed(PAPER.fr.augment, flip=0, crop=0, low_resolution=0, photometric=0, erasing=0)
