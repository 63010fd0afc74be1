"""Entry point of ``runner``: help at once, everything else through Hydra."""

import os
import shutil
import sys


def main() -> None:
    """Entry point of ``runner`` and ``python -m runner``."""
    from runner.errors import UsageError, complain

    # What is asked for: on the way Hydra is told to raise everything.
    whole = os.environ.get("HYDRA_FULL_ERROR") == "1"
    try:
        code = _carry_out(sys.argv[1:])
    except UsageError as error:
        code = complain(error)
    except KeyboardInterrupt:
        print("runner: stopped", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        # Whoever reads has seen enough, as in `runner store list | head`.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    except Exception as error:
        if whole:
            raise
        from runner.cli.faults import tell_fault

        code = tell_fault(error)
    if code:
        sys.exit(code)


def _carry_out(arguments: list[str]) -> int:
    from runner.util.redact import note
    from runner.util.surroundings import settle

    note(arguments)
    settle()
    first = arguments[0] if arguments else ""
    if first in ("--help", "-h"):
        return _help(arguments[1:])
    if {"--help", "-h"}.intersection(arguments) and first not in ("env", "store", "track"):
        return _help([])
    if first == "env":
        from runner.cli.env import execute as execute_env

        return execute_env(arguments[1:])
    if first == "store":
        from runner.cli.store import execute as execute_store

        return execute_store(arguments[1:])
    if first == "track":
        from runner.cli.track import execute as execute_track

        return execute_track(arguments[1:])
    from runner.cli.app import execute

    return execute()


def _help(arguments: list[str]) -> int:
    from runner.cli.help import help_text
    from runner.errors import UsageError

    if len(arguments) > 1:
        raise UsageError(f"--help takes one group: runner --help {arguments[0]}")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(help_text(arguments[0] if arguments else None, width), end="")
    return 0
