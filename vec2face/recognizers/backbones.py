"""Recognition backbones by name: the paper's Table 9, others of the field, and small ones.

The depth of 152 is that of face.evoLVe's IR-152 and of insightface's MXNet network, the blocks a
stage of He et al.'s ResNet-152 with two convolutions a block. (Others, such as TFace, give this
name to bottlenecks.) Sizes of transformers are those of insightface's arcface_torch.
"""

from collections.abc import Sequence
from typing import Any, get_args

from torch import nn

from vec2face.config.bounds import Backbone
from vec2face.config.sections import RecognizerConfig
from vec2face.recognizers import mobilefacenet
from vec2face.recognizers.iresnet import Gate, IResNet
from vec2face.recognizers.mobilefacenet import MobileFaceNet

DEPTHS = {
    "10": (1, 1, 1, 1),
    "18": (2, 2, 2, 2),
    "34": (3, 4, 6, 3),
    "50": (3, 4, 14, 3),
    "100": (3, 13, 30, 3),
    "152": (3, 8, 36, 3),
    "200": (6, 26, 60, 6),
}
WIDTHS = (64, 128, 256, 512)
TRANSFORMERS = {"vit_s": (512, 12), "vit_b": (512, 24), "vit_l": (768, 24)}
"""Width and blocks of what face recognition calls "S", "B" and "L"."""

NAMES: tuple[str, ...] = get_args(Backbone)


def architecture(config: RecognizerConfig, image_size: int) -> dict[str, Any]:
    """Return the arguments of ``build_backbone`` for a recognizer of ``config``."""
    found: dict[str, Any] = {
        "name": config.backbone,
        "image_size": image_size,
        "embedding": config.embedding,
        "widths": config.widths or None,
        "dropout": config.dropout,
    }
    if config.released:
        found["name"] = config.backbone.replace("iresnet200", "iresnet100")
        if config.backbone.startswith("se_"):
            found["squeeze_excitation"] = "shortcut"
    return found


def build_backbone(
    name: str,
    *,
    image_size: int = 112,
    embedding: int = 512,
    widths: Sequence[int] | None = None,
    squeeze_excitation: Gate | None = None,
    dropout: float = 0.4,
) -> nn.Module:
    """Build an untrained backbone.

    Args:
        name: one of ``NAMES``: ``iresnet50``, ``se_iresnet50``, ..., ``vit_s``, ``vit_l``; the
            number is the field's, ``se_iresnet10`` has one block a stage.
        image_size: side of the input; a multiple of 8, for transformers any from 9.
        embedding: length of the embedding.
        widths: channels of the four stages of an IResNet, default 64, 128, 256, 512, or those of
            ``MobileFaceNet``.
        squeeze_excitation: overrides the gate (``se_`` means ``"residual"``).
        dropout: before the last linear layer (IResNet only).

    Returns:
        A module with ``image_size`` and ``dimension``; input (B, 3, S, S) in [-1, 1].

    Raises:
        ValueError: on an unknown name, or widths for a transformer.
    """
    if name in TRANSFORMERS:
        if widths is not None or squeeze_excitation is not None:
            raise ValueError(f"{name} takes neither widths nor squeeze_excitation")
        from vec2face.recognizers.vit import FaceTransformer  # noqa: PLC0415 - timm takes seconds

        return FaceTransformer(*TRANSFORMERS[name], image_size, embedding)
    if name not in NAMES:
        raise ValueError(f"no backbone {name!r}; there are {', '.join(NAMES)}")
    if name == "mobilefacenet":
        if squeeze_excitation is not None:
            raise ValueError(f"{name} takes no squeeze_excitation")
        return MobileFaceNet(widths or mobilefacenet.WIDTHS, embedding, image_size)
    kind, _, number = name.rpartition("iresnet")
    default: Gate = "residual" if kind == "se_" else "none"
    return IResNet(
        DEPTHS[number],
        widths or WIDTHS,
        embedding,
        image_size,
        squeeze_excitation or default,
        dropout,
    )
