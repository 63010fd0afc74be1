"""What ``runner export`` and ``runner publish`` have in common: a run's checkpoint, handed on."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runner.cli.verbs import told
from runner.config.words import as_typed
from runner.errors import UsageError
from runner.util.shown import tell

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.release.subject import Subject

_READ = ("release.", "store.root", "dry_run")


def hand_on(
    command: str,
    arguments: Sequence[str],
    usage: str,
    wanted: tuple[str, str],
    work: "Callable[[Config, str, str], None]",
) -> int:
    """Carry out ``runner COMMAND NAME NAME [FIELD=VALUE ...]``; returns the exit code.

    Args:
        command: ``export`` or ``publish``.
        arguments: What follows it.
        usage: Printed when nothing or help is asked for.
        wanted: What the two names stand for.
        work: What to do with the configuration and the names.
    """
    if not arguments or {"--help", "-h"}.intersection(arguments):
        print(usage, end="")
        return 0
    overrides = [one for one in arguments if "=" in one]
    names = [one for one in arguments if "=" not in one]

    def carry_out() -> int:
        if wrong := next((name for name in names if name.startswith("-")), None):
            raise UsageError(f"runner {command} takes no {wrong}; runner {command} --help")
        if len(names) != len(wanted):
            raise UsageError(
                f"runner {command} takes two names, not {len(names)}: "
                f"runner {command} {' '.join(wanted)}"
            )
        _require_read(command, overrides)
        from runner.api import compose_config

        work(compose_config(overrides), names[0], names[1])
        return 0

    return told(carry_out)


def _require_read(command: str, overrides: Sequence[str]) -> None:
    """See that every override has an effect.

    Raises:
        UsageError: One has none.
    """
    for one in overrides:
        if not one.lstrip("+").startswith(_READ):
            raise UsageError(
                f"{as_typed(one)} has no effect: runner {command} reads "
                f"{', '.join(name.rstrip('.') for name in _READ)}"
            )
        if command == "export" and one.startswith(("release.private=", "release.revision=")):
            raise UsageError(f"{one} has no effect on a directory: runner publish reads it")


def subject_of(config: "Config", wanted: str) -> "Subject":
    """The checkpoint that a name stands for, compared with its digests."""
    from runner.release.subject import find_subject
    from runner.store.objects import ObjectStore
    from runner.util.progress import progress

    store = ObjectStore(Path(config.store.root).expanduser().resolve())
    with progress("comparing with digests", 1):
        return find_subject(store, wanted)


def tell_files(sizes: dict[str, int]) -> None:
    """List files with their sizes."""
    for name, size in sizes.items():
        tell(f"{_size(size):>10}  {name}")
    tell(f"{_size(sum(sizes.values())):>10}  in {len(sizes)} files")


def _size(count: int) -> str:
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count} B"
