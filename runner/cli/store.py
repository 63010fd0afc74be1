"""``runner store``: list and verify the contents of the store, and free space."""

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.cli.verbs import carry_out
from runner.errors import StageError, UsageError
from runner.store.disk_errors import disk_errors_explained
from runner.store.inventory import Inventory, StoredResult
from runner.store.objects import ObjectStore
from runner.store.provenance import faults
from runner.store.records import Status
from runner.util.names import Name
from runner.util.progress import progress, quiet
from runner.util.shown import tell

USAGE = """\
runner store list                     results by stage, sweeps with their runs
runner store show KEY                 one result: size, age, what it was made from, who uses it
runner store verify [STAGE|KEY ...]   compare files with the digests they were finished with
runner store prune [SWEEP ...]        what nobody needs once these sweeps are dropped
runner store prune --yes [SWEEP ...]  delete it

Results that a kept sweep needs, directly or as something they were made from, stay. Another
store: store.root=PATH, or QUANT_RUNNER_STORE.
"""

_YES = "--yes"


@dataclass(frozen=True)
class _Asked:
    """A store, and where to say how far the work on it is."""

    store: ObjectStore
    inventory: Inventory


_Verb = Callable[[_Asked, list[str]], int]


def execute(arguments: Sequence[str]) -> int:
    """Carry out ``runner store ARGUMENTS``; returns the exit code."""
    verbs = {"list": _list, "show": _show, "verify": _verify, "prune": _prune}
    stopped = "deleted results are gone, all others are intact"
    return carry_out(
        "store",
        arguments,
        usage=USAGE,
        prepare=_asked,
        verbs={name: _telling(verb) for name, verb in verbs.items()},
        stopped=stopped,
        flags=(_YES,),
    )


def _telling(verb: _Verb) -> _Verb:
    """The verb, whose troubles with the disk are told in one sentence."""

    def carry(asked: _Asked, names: list[str]) -> int:
        try:
            with disk_errors_explained(asked.store.root):
                return verb(asked, names)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise StageError(_sentence(error, asked.store.root)) from error

    return carry


def _sentence(error: OSError, root: Path) -> str:
    return f"{error.filename or root}: {os.strerror(error.errno or 0).lower()}"


def _asked(overrides: list[str], names: list[str]) -> _Asked:
    from runner.api import compose_config
    from runner.pipeline.stages import retention_of

    root = Path(compose_config(overrides).store.root).expanduser().resolve()
    if not root.is_dir():
        raise UsageError(f"there is no store in {root}; set store.root=PATH or QUANT_RUNNER_STORE")
    store = ObjectStore(root)
    try:
        return _Asked(store, Inventory(store, retention_of))
    except OSError as error:
        raise StageError(_sentence(error, root)) from error


def _list(asked: _Asked, names: list[str]) -> int:
    if names:
        raise UsageError(
            "runner store list takes no names; to show one result: runner store show KEY"
        )
    inventory = asked.inventory
    sizes = inventory.sizes()
    tell(f"{asked.store.root}: {_megabytes(size for _, _, size, _ in sizes)} MB of results")
    for stage, count, size, latest in sizes:
        tell(f"  {stage:<12} {count:>5} results {_megabytes([size]):>10} MB, "
              f"latest {_age(latest)}")  # fmt: skip
    for sweep, runs in inventory.sweeps.items():
        statuses = [status.value for status in runs.values()]
        counts = ", ".join(f"{statuses.count(word)} {word}" for word in dict.fromkeys(statuses))
        tell(f"  sweep {sweep}: {counts or 'no runs'}")
    if damaged := list(_set_aside(asked.store)):
        room = _megabytes(_bytes_below(path) for path in damaged)
        tell(f"  damaged results set aside: {len(damaged)}, {room} MB")
    _require_records(inventory)
    return 0


def _show(asked: _Asked, names: list[str]) -> int:
    if len(names) != 1 or names[0] == _YES:
        raise UsageError("runner store show needs one key: runner store show KEY")
    inventory = asked.inventory
    results = inventory.find(names[0])
    if not results:
        raise UsageError(f"the store has no result {names[0]}; see runner store list")
    for one in results:
        address = one.address
        tell(f"{address}  {_megabytes([one.size_bytes])} MB, {_age(one.modified)}")
        tell(f"  {one.directory}")
        if not one.is_sealed:
            tell("  no readable provenance: its inputs are unknown")
        for title, lines in (
            ("made from", inventory.made_from(address)),
            ("used by", inventory.used_by(address)),
            ("in run", inventory.runs_of(address)),
        ):
            for line in lines:
                tell(f"  {title} {line}")
    return 0


def _verify(asked: _Asked, names: list[str]) -> int:
    if _YES in names:
        raise UsageError("runner store verify deletes nothing; omit --yes")
    chosen: dict[str, StoredResult] = {}
    for name in names or [""]:
        results = asked.inventory.find(name)
        if names and not results:
            raise UsageError(f"the store has no result {name}; see runner store list")
        chosen |= {str(one.address): one for one in results}
    unsealed = bad = 0
    total = sum(one.size_bytes for one in chosen.values())
    with progress("comparing with digests, kB", total // 1000) as seen:
        for one in chosen.values():
            found_bad = _compare(one, seen)
            unsealed += not found_bad and not one.is_sealed
            bad += bool(found_bad)
            with quiet() if found_bad else contextlib.nullcontext():
                for fault in found_bad:
                    tell(f"{one.address}: {fault}")
    tell(f"{len(chosen) - bad - unsealed} sound, {bad} damaged, {unsealed} without digests")
    if bad:
        tell("the next run that needs a damaged result sets it aside and recomputes it")
    return 1 if bad else 0


def _compare(one: StoredResult, seen: Callable[[int], None]) -> list[str]:
    """What is wrong with a result; kilobytes that were read are seen."""
    before = 0

    def compared(part: int, _: int) -> None:
        nonlocal before
        seen(part // 1000 - before)
        before = part // 1000

    try:
        found = faults(one.directory, compared)
    except OSError as error:
        found = [f"cannot be read: {_sentence(error, one.directory)}"]
    compared(one.size_bytes, 0)
    # Another process may have deleted it meanwhile.
    return found if one.directory.exists() else []


def _prune(asked: _Asked, names: list[str]) -> int:
    inventory = asked.inventory
    _require_records(inventory)  # what one needs that cannot be read is not known
    yes = _YES in names
    names = list(dict.fromkeys(Name.shortened(name) for name in names if name != _YES))
    if unknown := [name for name in names if name not in inventory.sweeps]:
        known = ", ".join(inventory.sweeps) or "none"
        raise UsageError(f"there is no sweep {', '.join(unknown)}; known sweeps: {known}")
    for name in names:
        runs = inventory.sweeps[name].items()
        if at_it := [run for run, status in runs if status is Status.running]:
            raise UsageError(f"sweep {name} is running: {', '.join(at_it)}")
    unneeded = inventory.unneeded(without=names)
    damaged = list(_set_aside(asked.store))
    total = sum(one.size_bytes for one in unneeded) + sum(map(_bytes_below, damaged))
    for one in unneeded:
        tell(f"{one.address}  {_megabytes([one.size_bytes])} MB, {_age(one.modified)}")
    for path in damaged:
        tell(f"damaged/{path.name}  {_megabytes([_bytes_below(path)])} MB, set aside")
    count, size = len(unneeded) + len(damaged), _megabytes([total])
    if not yes:
        tell(f"{count} results, {size} MB: runner store prune --yes deletes them"
              f"{' and the records of ' + ', '.join(names) if names else ''}")  # fmt: skip
        return 0
    for name in names:
        inventory.remove_sweep(name)
    removed = 0
    with progress("deleting results", count) as seen:
        for is_gone in inventory.remove_all(unneeded):
            removed += is_gone
            seen()
        for path in damaged:
            shutil.rmtree(path)
            removed += 1
            seen()
    tell(f"{removed} of {count} results deleted, {size} MB")
    return 0


def _require_records(inventory: Inventory) -> None:
    """See that every record can be read.

    Raises:
        StageError: One cannot.
    """
    if damaged := inventory.unreadable_records():
        more = f" (and {len(damaged) - 1} more)" if damaged[1:] else ""
        raise StageError(
            f"{damaged[0]}{more} is not a record that this version can read; delete it or move it "
            "away"
        )


def _set_aside(store: ObjectStore) -> Iterator[Path]:
    return iter(sorted((store.root / "damaged").glob("*")))


def _bytes_below(place: Path) -> int:
    return sum(file.lstat().st_size for file in place.rglob("*") if file.is_file())


def _megabytes(sizes: Iterable[int]) -> str:
    return f"{sum(sizes) / 1e6:.1f}"


def _age(modified: float) -> str:
    seconds = max(0.0, time.time() - modified)
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
