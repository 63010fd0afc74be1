"""What subcommands with names or verbs of their own have in common."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from runner.errors import RunnerError, UsageError, complain, reason
from runner.util.suggest import unknown

Subject = TypeVar("Subject")


def carry_out(
    command: str,
    arguments: Sequence[str],
    *,
    usage: str,
    prepare: Callable[[list[str], list[str]], Subject],
    verbs: Mapping[str, Callable[[Subject, list[str]], int]],
    stopped: str,
    flags: Collection[str] = (),
) -> int:
    """Carry out ``runner COMMAND VERB [NAME ...] [FIELD=VALUE ...]``; returns the exit code.

    Args:
        command: ``env``, ``store`` or ``track``.
        arguments: What follows the command.
        usage: Printed when nothing or help is asked for.
        prepare: Makes what the verbs work on out of overrides and names.
        verbs: What to do with it and the names.
        stopped: What Ctrl-C leaves behind, in words.
        flags: What begins with a dash and is passed on among the names.
    """
    if not arguments or {"--help", "-h"}.intersection(arguments):
        print(usage, end="")
        return 0
    verb, *rest = arguments
    overrides = [argument for argument in rest if "=" in argument]
    names = [argument for argument in rest if "=" not in argument]

    def work() -> int:
        if verb not in verbs:
            raise UsageError(unknown(f"runner {command} {verb}", verbs, verb, "verbs"))
        if wrong := [name for name in names if name.startswith("-") and name not in flags]:
            raise UsageError(
                f"runner {command} {verb} takes no {wrong[0]}; runner {command} --help"
            )
        if "" in names:
            raise UsageError(f"runner {command} {verb}: a name is empty")
        return verbs[verb](prepare(overrides, names), names)

    try:
        return told(work)
    except KeyboardInterrupt:
        print(f"runner: stopped; {stopped}", file=sys.stderr)
        return 130


def told(work: Callable[[], int]) -> int:
    """What ``work`` returns, or the exit code of the error that it ends with, which is printed."""
    try:
        return work()
    except UsageError as error:
        return complain(error)
    except RunnerError as error:
        complain(error)
        return 1
    except OSError as error:
        if (what := reason(error)) is None:
            raise
        return complain(what)
