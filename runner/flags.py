"""What a command line says to Hydra itself, and what Hydra answers to it."""

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from runner.errors import UsageError
from runner.redact import redact_yaml
from runner.words import read_words


def read_flags() -> argparse.Namespace:
    """The command line's flags; they are put in front of its overrides, which are made Hydra's.

    Raises:
        UsageError: It has a flag that Hydra does not know, two that exclude each other, or a word
            that can be read in two ways.
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()

    def refuse(message: str) -> NoReturn:
        raise UsageError(f"{message}; runner --help tells what there is")

    parser.error = refuse  # type: ignore[method-assign]
    # Neither this parser nor Hydra's own takes flags between overrides.
    takers = {o for a in parser._actions if a.nargs in (None, "?") for o in a.option_strings}
    given = sys.argv[1:]
    pairs = [
        (one, one.startswith("-") or before in takers)
        for before, one in zip(["", *given], given, strict=False)
    ]
    flags = [one for one, is_flag in pairs if is_flag]
    words = [one for one, is_flag in pairs if not is_flag]
    asked = parser.parse_args([*flags, *words])
    _require_one(asked)
    if not asked.shell_completion:
        sweep = asked.multirun or "hydra.mode=MULTIRUN" in words
        words = read_words(words, sweep=sweep)
    sys.argv[1:] = [*flags, *words]
    return parser.parse_args()


def _require_one(asked: argparse.Namespace) -> None:
    """See that one thing is asked for, with what belongs to it."""
    given = [
        f"--{name.replace('_', '-')}"
        for name in ("run", "multirun", "cfg", "info", "shell_completion", "hydra_help")
        if getattr(asked, name) not in (None, False)
    ]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)}: one of them at a time")
    if asked.cfg is None and (asked.resolve or asked.package is not None):
        lone = "--resolve" if asked.resolve else "--package"
        raise UsageError(f"{lone} belongs to --cfg: runner --cfg job {lone} …")
    if asked.config_path is not None:
        raise UsageError("--config-path would hide our own configuration: --config-dir adds yours")
    if asked.config_dir is not None and not Path(asked.config_dir).is_dir():
        raise UsageError(f"--config-dir {asked.config_dir} is no directory")
    if asked.experimental_rerun is not None:
        raise UsageError("--experimental-rerun is not supported: give the command again")


@contextlib.contextmanager
def masked_output() -> Iterator[None]:
    """Print what the block prints without credentials, once it is over."""
    caught = io.StringIO()
    try:
        with contextlib.redirect_stdout(caught):
            yield
    finally:
        print(redact_yaml(caught.getvalue()), end="")
