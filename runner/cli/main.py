"""Entry point of ``runner``: help at once, everything else through Hydra."""

import gc
import os
import shutil
import sys

_OBJECTS = 50_000
"""New ones after which Python looks for cycles: at its own 700 that takes a tenth of a command."""


def main() -> None:
    """Entry point of ``runner`` and ``python -m runner``."""
    gc.set_threshold(_OBJECTS)
    from runner.errors import UsageError, complain

    # What is asked for: on the way Hydra is told to raise everything.
    whole = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        code = _carry_out(sys.argv[1:])
        sys.stdout.flush()
    except UsageError as error:
        code = complain(error)
    except KeyboardInterrupt:
        print("runner: stopped", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        from runner.util.shown import leave_reader

        leave_reader()
    except Exception as error:
        if whole:
            raise
        from runner.cli.faults import tell_fault

        code = tell_fault(error)
    if code:
        sys.exit(code)


def _carry_out(arguments: list[str]) -> int:
    from runner.cli.subcommands import SUBCOMMANDS
    from runner.config.options import note_config_dir
    from runner.util.redact import note
    from runner.util.surroundings import settle

    note(arguments)
    settle()
    asked = note_config_dir(arguments)
    first = arguments[0] if arguments else ""
    command = SUBCOMMANDS.get(first)
    if first == "--version":
        print(f"quant-runner {version()}")
        return 0
    if {"--help", "-h"}.intersection(arguments) and (command is None or command.module is None):
        return _help(asked)
    if command is not None and command.module is not None:
        return command.execute(arguments[1:])
    if first in ("-sc", "--shell-completion") and "COMP_LINE" in os.environ:
        from runner.cli.completion import complete_subcommand

        if complete_subcommand():
            return 0
    from runner.cli.app import execute

    return execute()


def version() -> str:
    """The installed version of the package."""
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        return installed("quant-runner")
    except PackageNotFoundError:
        return "unknown (the package is not installed)"


def _help(arguments: list[str]) -> int:
    from runner.cli.help import help_text
    from runner.cli.subcommands import SUBCOMMANDS
    from runner.errors import UsageError

    first, *rest = arguments
    if (command := SUBCOMMANDS.get(first)) is not None:
        print(command.help_text(), end="")
        return 0
    if first not in ("--help", "-h"):
        rest = []
    if len(rest) > 1:
        raise UsageError(f"--help takes one group: runner --help {rest[0]}")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(help_text(rest[0] if rest else None, width), end="")
    return 0
