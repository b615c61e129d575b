"""A reader in a process of its own, with little memory and little time."""

import os
import resource
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vec2face.runtime.files import InputError


def limit(megabytes: int) -> None:
    """Let this process take so much more memory, where the system says how much it has."""
    if not (there := Path("/proc/self/statm")).is_file():
        return
    pages = int(there.read_text().split()[0])
    most = pages * resource.getpagesize() + megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def outcome(
    read: Callable[..., Any], *given: Any, megabytes: int = 256, seconds: int = 60
) -> str | None:
    """Run ``read(*given)`` in a child; return the message of its ``InputError``, or None.

    Raises:
        AssertionError: if it ended in any other way, by a signal, too little memory or time.
    """
    mine, child = os.pipe()
    process = os.fork()
    if not process:
        said, code = "", 1
        try:
            os.close(mine)
            signal.alarm(seconds)
            limit(megabytes)
            read(*given)
            code = 0
        except InputError as error:
            said, code = str(error), 2
        except BaseException:
            said = traceback.format_exc()
        finally:
            sys.stdout.flush()
            os.write(child, said.encode(errors="replace")[-60_000:])
            os._exit(code)
    os.close(child)
    with os.fdopen(mine, "rb") as pipe:
        said = pipe.read().decode()
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    assert code in (0, 2), f"ended with {code}: {said}"
    assert "MemoryError" not in said, said
    return said if code else None
