"""Internal errors: reported in one line, with the full traceback in a file."""

import os
import sys
import time
import traceback
from pathlib import Path

from runner.errors import complain
from runner.util.paths import is_folder
from runner.util.redact import redact

FULL_ERROR = "HYDRA_FULL_ERROR"
"""Variable that has tracebacks shown: ours as well as Hydra's."""
_MOST_CHARACTERS = 300


def shows_faults() -> bool:
    """Whether tracebacks are to be shown."""
    return os.environ.get(FULL_ERROR) == "1"


def tell_fault(error: BaseException, root: Path | None = None) -> int:
    """Tell an error that nobody has foreseen; returns the exit code for it."""
    complain(fault(error, root))
    return 1


def fault(error: BaseException, root: Path | None = None) -> str:
    """One line about an error that nobody has foreseen.

    Args:
        error: What was raised.
        root: The store's, if one is in use: the traceback is kept among its logs.
    """
    kind = type(error).__name__
    message = " ".join(str(redact(str(error))).split())
    if len(message) > _MOST_CHARACTERS:
        message = f"{message[:_MOST_CHARACTERS]}…"
    path = _keep(error, root)
    where = f"the traceback is in {path}" if path else f"{FULL_ERROR}=1 shows the traceback"
    return f"internal error: {kind}{': ' if message else ''}{message}; {where}"


def _keep(error: BaseException, root: Path | None) -> Path | None:
    # Nothing is made for it where there is no store yet.
    if root is None or not is_folder(str(root / "logs")):
        return None
    path = root / "logs" / f"fault-{time.strftime('%Y-%m-%d_%H-%M-%S')}-{os.getpid()}.log"
    text = f"{sys.argv}\n{''.join(traceback.format_exception(error))}"
    try:
        path.write_text(str(redact(text)), "utf-8", errors="backslashreplace")
    except OSError:
        return None
    return path
