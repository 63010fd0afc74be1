"""What a command line says to Hydra itself, and what Hydra answers to it."""

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator
from typing import NoReturn

from runner.errors import UsageError
from runner.redact import redact


def read_flags() -> argparse.Namespace:
    """The command line's flags; they are put in front of its overrides.

    Raises:
        UsageError: It has a flag that Hydra does not know.
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
    sys.argv[1:] = [*flags, *(one for one, is_flag in pairs if not is_flag)]
    return parser.parse_args()


@contextlib.contextmanager
def masked_output() -> Iterator[None]:
    """Print what the block prints without credentials, once it is over."""
    caught = io.StringIO()
    try:
        with contextlib.redirect_stdout(caught):
            yield
    finally:
        print(redact(caught.getvalue()), end="")
