"""What ``runner env``, ``runner store`` and ``runner track`` have in common."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from runner.errors import RunnerError, UsageError, complain

Subject = TypeVar("Subject")


def carry_out(
    command: str,
    arguments: Sequence[str],
    *,
    usage: str,
    prepare: Callable[[list[str], list[str]], Subject],
    verbs: Mapping[str, Callable[[Subject, list[str]], int]],
    stopped: str,
) -> int:
    """Carry out ``runner COMMAND VERB [NAME ...] [FIELD=VALUE ...]``; returns the exit code.

    Args:
        command: ``env``, ``store`` or ``track``.
        arguments: What follows the command.
        usage: Printed when nothing or help is asked for.
        prepare: Makes what the verbs work on out of overrides and names.
        verbs: What to do with it and the names.
        stopped: What Ctrl-C leaves behind, in words.
    """
    if not arguments or arguments[0] in ("--help", "-h"):
        print(usage, end="")
        return 0
    verb, *rest = arguments
    overrides = [argument for argument in rest if "=" in argument]
    names = [argument for argument in rest if "=" not in argument]
    try:
        if verb not in verbs:
            raise UsageError(f"there is no runner {command} {verb}; there are {', '.join(verbs)}")
        return verbs[verb](prepare(overrides, names), names)
    except UsageError as error:
        return complain(error)
    except RunnerError as error:
        print(f"runner: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"runner: stopped; {stopped}", file=sys.stderr)
        return 130
