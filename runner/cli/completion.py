"""Tab completion of subcommands; the rest of a command line is completed by Hydra."""

import os
from collections.abc import Iterable

from runner.cli.subcommands import SUBCOMMANDS


def complete_subcommand() -> bool:
    """Print completions of a subcommand and of its verbs and names, one a line.

    A shell's completion script passes the line typed so far in ``COMP_LINE``. Of that line a
    subcommand that is followed by overrides is removed, for Hydra to complete what follows.

    Returns:
        Whether nothing is left to complete for Hydra.
    """
    line = os.environ.get("COMP_LINE", "")
    program, *words = line.split() or [""]
    if not line[-1:].isspace():
        *words, current = words or [""]
    else:
        current = ""
    if not words:
        _print(current, SUBCOMMANDS)
        return False
    chosen = SUBCOMMANDS.get(words[0])
    if chosen is None:
        return False
    if not chosen.verbs:
        os.environ["COMP_LINE"] = " ".join([program, *words[1:], current])
        return False
    if not words[1:]:
        _print(current, chosen.verbs)
        return True
    if chosen.name == "env":
        from runner.config.options import option_files

        _print(current, option_files("environment"))
    return "=" not in current and "." not in current


def _print(current: str, names: Iterable[str]) -> None:
    for name in names:
        if name.startswith(current):
            print(name)
