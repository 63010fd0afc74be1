"""What `runner` carries out where its overrides do not say what to run: a first look in three rows.

``sweeps/quickstart.yaml`` has it.
"""

import argparse
import re
from collections.abc import Sequence

from runner.config.options import own_file
from runner.multirun.launchers.task import own_number
from runner.util.shown import tell

QUICKSTART = "quickstart"
_NEXT_STEPS = (
    ("runner -cn quickstart model=local model.path=/models/mine", "your model"),
    ("runner -cn first_look", "seven recipes"),
)
"""Commands that go on from there, and what they are about."""
_HOW = frozenset(
    {
        "decide", "dry_run", "environment", "hydra", "launch", "store", "sweep", "tracker",
    }
)  # fmt: skip
"""Sections that say how a run is kept or judged, not of what it is made nor how it is measured."""
_OF_SWEEPS = ("hydra/sweeper", "hydra.sweeper", "hydra.mode")


def asks_for_quickstart(flags: argparse.Namespace, words: Sequence[str]) -> bool:
    """Whether a command line leaves it to us what to run.

    Args:
        flags: Hydra's.
        words: Its overrides.
    """
    own = ("config_name", "multirun", "cfg", "info", "shell_completion", "hydra_help", "run")
    if any(getattr(flags, name) not in (None, False) for name in own):
        return False
    # A config.yaml of the user's own is an experiment of the user's own, and a launcher's process
    # carries out the run that it was started for.
    return own_number() is None and own_file("config") is None and all(map(_says_how, words))


def tell_next_steps() -> None:
    """Print what to run after the quickstart."""
    width = max(len(command) for command, _ in _NEXT_STEPS)
    tell("\nNext:")
    for command, about in _NEXT_STEPS:
        tell(f"  {command:<{width}}   # {about}")


def _says_how(word: str) -> bool:
    key, sign, _ = word.lstrip("+").partition("=")
    if not sign or key.startswith(("~", *_OF_SWEEPS)):
        return False
    package = key.partition("@")[2] or key
    return re.split(r"[./]", package)[0] in _HOW
