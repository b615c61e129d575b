"""Files that commands write: none replaces another, and names say what is in them."""

from pathlib import Path


def check_new(path: str, *endings: str) -> None:
    """Refuse a destination that exists, or whose name does not end in one of ``endings``, if any.

    Raises:
        InputError: if so.
    """
    from vec2face.runtime.files import InputError  # noqa: PLC0415

    if endings and Path(path).suffix not in endings:
        raise InputError(f"{path}: name it *{' or *'.join(endings)}, as its content is")
    if Path(path).exists():
        raise InputError(f"{path}: exists already; remove it or choose another name")
