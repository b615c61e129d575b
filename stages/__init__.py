"""The programs of the pipeline, one a stage of dvc.yaml, in the order of the flow."""

import contextlib
import logging
import os
import sys
from collections.abc import Callable

from stages.artifacts import artifacts
from vec2face.config.params import Params
from vec2face.runtime.files import InputError, check_writable, sweep_killed

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it."""


def run(
    main: Callable[..., None],
    *arguments: str,
    shared: bool = False,
    units: Callable[[], int] | None = None,
) -> None:
    """Run a stage's ``main``; bad input ends it with one clear line instead of a traceback.

    So does Ctrl-C, with exit code 130.

    The parameters are checked first, also for a stage that reads none: in a fresh clone the first
    to run has to find a bad value, not the one that uses it. So are the folders of the outputs,
    which lose what killed runs left there.

    With ``shared``, several processes may share the work (``vec2face.runtime.processes``);
    ``units`` says into how many equal parts it falls. With ``VEC2FACE_WORKERS``, the stage keeps to
    a part of the machine (``vec2face.runtime.places``).
    """
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        for doubt in Params.load(artifacts.params).doubts():
            if os.environ.get("RANK", "0") == "0":
                logging.getLogger(__name__).warning(doubt)
        for folder in artifacts.folders:
            check_writable(folder)
            sweep_killed(folder)
        with contextlib.ExitStack() as stack:
            if "VEC2FACE_WORKERS" in os.environ:
                from vec2face.runtime.places import place  # noqa: PLC0415 - torch, where it is needed

                stack.enter_context(place(artifacts.work / "places"))
            if shared:
                from vec2face.runtime.processes import launch  # noqa: PLC0415 - likewise

                launch(main, *arguments, units=units() if units else None)
            else:
                main(*arguments)
    except InputError as error:
        sys.exit(f"error: {error}")
    except MemoryError as error:
        sys.exit(
            f"error: memory is short: {error or 'no more is left'}; `python -m vec2face check` "
            "says how much a run needs; identities, images_per_identity and subset decide it"
        )
    except KeyboardInterrupt:
        print("interrupted: run it again to go on from here", file=sys.stderr)
        sys.exit(INTERRUPTED)
