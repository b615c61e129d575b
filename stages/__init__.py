"""The programs of the pipeline, one a stage of dvc.yaml, in the order of the flow."""

import logging
import sys
from collections.abc import Callable

from vec2face.files import InputError


def run(
    main: Callable[..., None],
    *arguments: str,
    shared: bool = False,
    units: Callable[[], int] | None = None,
) -> None:
    """Run a stage's ``main``; bad input ends it with one clear line instead of a traceback.

    With ``shared``, several processes may share the work (``vec2face.distributed``);
    ``units`` says into how many equal parts it falls.
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        if shared:
            from vec2face.distributed import launch  # noqa: PLC0415 - torch, where it is needed

            launch(main, *arguments, units=units() if units else None)
        else:
            main(*arguments)
    except InputError as error:
        sys.exit(f"error: {error}")
