"""The authors' generator weights, in and out.

Their checkpoint is a dict whose ``model_vec2face`` holds the state dict. The tensors are those of
our generator under other names; ``patch_embed``, ``center_token`` and a buffer of position numbers
are in the file but take no part in the computation. Sizes follow from shapes, all but the numbers
of heads. Released weights were trained with the slips that ``GeneratorConfig.released`` names and
need them, so the switch is on for what is read here.
"""

from pathlib import Path

import torch
from torch import Tensor

from vec2face.config.sections import GeneratorConfig
from vec2face.generator.masks import ROWS
from vec2face.generator.network import Vec2Face
from vec2face.recognizers.weights import SUFFIXES, load_into, named, read_checkpoint
from vec2face.runtime.files import InputError, whole_file

KEY = "model_vec2face"
ENCODER_HEADS = {768: 12, 1024: 16, 1280: 16}  # ViT-Base, -Large and -Huge, by width
DECODER_HEADS = 16
_PATCH = 16
_UNUSED = (
    "patch_embed.proj.weight",
    "patch_embed.proj.bias",
    "center_token.weight",
    "center_token.bias",
    "token_emb.position_ids",
)
_PARTS = {  # ours: theirs
    "embed": "latent_prior_proj_f",
    "expand": "feature_token",
    "encoder_position": "token_emb.position_embeddings.weight",
    "encoder_input_norm": "token_emb.LayerNorm",
    "encoder": "blocks",
    "encoder_norm": "norm",
    "to_decoder": "decoder_embed",
    "decoder_position": "decoder_pos_embed_learned",
    "decoder": "decoder_blocks",
    "decoder_norm": "decoder_norm",
    "to_map": "im_decoder_proj",
    "to_image.enter": "im_decoder.conv_in",
    "to_image.norm": "im_decoder.norm_out",
    "to_image.out": "im_decoder.conv_out",
}


def open_generator(path: Path | str) -> Vec2Face:
    """Return the generator of a file: ours (``.safetensors``) or an authors' checkpoint.

    Raises:
        InputError: as ``Vec2Face.load`` or ``read_generator``.
    """
    return read_generator(path) if Path(path).suffix in SUFFIXES else Vec2Face.load(path)


def read_generator(path: Path | str, heads: tuple[int, int] | None = None) -> Vec2Face:
    """Return the generator of an authors' checkpoint, in evaluation mode.

    Args:
        path: a ``.pth`` with the key ``model_vec2face``; nothing in it is run.
        heads: of encoder and decoder; default: those of the authors' model of this width.

    Raises:
        InputError: if the file is no such checkpoint, a tensor is missing, unknown or of another
            shape, or the heads of its width are not known.
    """
    content = read_checkpoint(path)
    if not isinstance(content, dict) or not isinstance(content.get(KEY), dict):
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise InputError(
            f"{path}: no {KEY} in it (it holds {keys}); give a checkpoint of the authors' training"
        )
    tensors = {k: v for k, v in named(content[KEY], path).items() if k not in _UNUSED}
    try:
        config = _config(tensors, heads, path)
        dimension = tensors["latent_prior_proj_f.weight"].shape[1]
        generator = Vec2Face.unfilled(config, dimension, len(tensors))
    except KeyError as error:
        raise InputError(f"{path}: {KEY} lacks {error}; download it again") from error
    except InputError:
        raise
    except Exception as error:  # whatever shapes from outside bring about
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: shapes of no known generator ({reason})") from error
    names = {theirs: ours for ours, theirs in _names(generator).items()}
    own = {names.get(name, name): value for name, value in tensors.items()}
    if "encoder_position" in own:
        own["encoder_position"] = own["encoder_position"][None]
    own |= {"feature_mean": torch.zeros(generator.dimension), "feature_std": torch.ones(())}
    load_into(generator, own, path)
    return generator.eval()


def save_released(path: Path | str, generator: Vec2Face) -> None:
    """Write a generator as the authors' checkpoint; their code loads it.

    The standardisation of features goes into the first layer; modules that they have and do not
    use are written as zeros. Numbers of heads and groups are not in the layout: theirs are those of
    ``read_generator`` and 32.

    Raises:
        InputError: if channels change without the released shortcut, which the layout has no place
            for.
    """
    c = generator.config
    if len(set(c.channels)) > 1 and not c.released:
        raise InputError(
            f"{path}: the authors' layout has other shortcuts where channels change; train with "
            "generator.released: true, or with equal channels at all levels"
        )
    names = _names(generator)
    state = {k: v.detach().cpu() for k, v in generator.state_dict().items()}
    weight = state["embed.weight"] / state["feature_std"]
    state["embed.bias"] = state["embed.bias"] - weight @ state["feature_mean"]
    state["embed.weight"] = weight
    state["encoder_position"] = state["encoder_position"][0]
    tensors = {theirs: state[ours].clone() for ours, theirs in names.items()}
    shapes = [(c.width, 3, _PATCH, _PATCH), (c.width,), (ROWS, c.width), (ROWS,)]
    tensors |= {name: torch.zeros(s) for name, s in zip(_UNUSED, shapes, strict=False)}
    tensors["token_emb.position_ids"] = torch.arange(1 + ROWS)[None]
    with whole_file(path) as temporary:
        torch.save({KEY: tensors}, temporary)


def import_generator(
    source: Path | str, destination: Path | str, heads: tuple[int, int] | None = None
) -> GeneratorConfig:
    """Turn an authors' checkpoint into a generator file of ours (``.safetensors``).

    Args:
        source: as in ``read_generator``.
        destination: such as data/weights/vec2face.safetensors, for ``paths.generator``.
        heads: as in ``read_generator``.

    Returns:
        The sizes.

    Raises:
        InputError: as ``read_generator``.
    """
    generator = read_generator(source, heads)
    generator.save(destination)
    return generator.config


def _config(
    tensors: dict[str, Tensor], heads: tuple[int, int] | None, where: Path | str
) -> GeneratorConfig:
    width = len(tensors["latent_prior_proj_f.weight"])
    if heads is None and width not in ENCODER_HEADS:
        raise InputError(
            f"{where}: of width {width}, so its heads are not known; state them (import-generator "
            "--heads ENCODER DECODER)"
        )
    levels = _count(tensors, "im_decoder.up.")
    return GeneratorConfig(
        width=width,
        decoder_width=len(tensors["decoder_embed.weight"]),
        encoder_blocks=_count(tensors, "blocks."),
        encoder_heads=heads[0] if heads else ENCODER_HEADS[width],
        decoder_blocks=_count(tensors, "decoder_blocks."),
        decoder_heads=heads[1] if heads else DECODER_HEADS,
        mlp_ratio=len(tensors["blocks.0.mlp.fc1.weight"]) / width,
        front_channels=len(tensors["im_decoder_proj.weight"]),
        channels=tuple(
            len(tensors[f"im_decoder.up.{level}.block.0.conv1.weight"]) for level in range(levels)
        ),
        residual_blocks=_count(tensors, "im_decoder.up.0.block."),
        groups=32,
        dropout=0.1,  # this and what follows matter in training alone
        position_std=0.02,
        expansion_std=1.0,
        residual_gain=1.0,
        released=True,
    )


def _count(tensors: dict[str, Tensor], prefix: str) -> int:
    """Return how many numbers follow ``prefix`` in the names."""
    return len({n.removeprefix(prefix).split(".")[0] for n in tensors if n.startswith(prefix)})


def _names(generator: Vec2Face) -> dict[str, str]:
    """Return their name of each tensor of ours but the standardisation, which they do not have."""
    parts = _PARTS | _levels(generator.config)
    names = {}
    for name in generator.state_dict():
        if name in ("feature_mean", "feature_std"):
            continue
        part = max((p for p in parts if name == p or name.startswith(p + ".")), key=len)
        names[name] = (parts[part] + name.removeprefix(part)).replace(
            ".shortcut.", ".nin_shortcut."
        )
    return names


def _levels(config: GeneratorConfig) -> dict[str, str]:
    """Return the names of ``ImageDecoder.levels``: ours count through, theirs level by level."""
    theirs = ["mid.block_1", "mid.block_2"]
    for level in reversed(range(len(config.channels))):
        theirs += [f"up.{level}.block.{i}" for i in range(config.residual_blocks)]
        if level:
            theirs += ["", f"up.{level}.upsample.conv"]  # the upsampling itself has no weights
    return {f"to_image.levels.{i}": f"im_decoder.{name}" for i, name in enumerate(theirs)}
