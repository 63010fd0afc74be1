"""``runner store``: what the store holds, whether it is sound, and making room."""

import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from runner.errors import UsageError
from runner.store.inventory import Held, Inventory
from runner.store.objects import ObjectStore
from runner.store.records import Status
from runner.store.seal import faults, read_seal
from runner.verbs import carry_out

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


def execute(arguments: Sequence[str]) -> int:
    """Carry out ``runner store ARGUMENTS``; returns the exit code."""
    verbs = {"list": _list, "show": _show, "verify": _verify, "prune": _prune}
    stopped = "what was deleted is gone, the rest is whole"
    return carry_out(
        "store", arguments, usage=USAGE, prepare=_inventory, verbs=verbs, stopped=stopped
    )


def _inventory(overrides: list[str], names: list[str]) -> Inventory:
    from runner.api import compose_config

    return Inventory(ObjectStore(Path(compose_config(overrides).store.root).expanduser().resolve()))


def _list(inventory: Inventory, names: list[str]) -> int:
    stages: dict[str, list[Held]] = {}
    for one in inventory.held.values():
        stages.setdefault(one.address.stage, []).append(one)
    print(f"{inventory.store.root}: {_megabytes(inventory.held.values())} MB of results")
    for stage, held in sorted(stages.items()):
        age = _age(max(one.modified for one in held))
        print(f"  {stage:<12} {len(held):>5} results {_megabytes(held):>10} MB, latest {age}")
    for sweep, records in inventory.sweeps.items():
        statuses = [record.status.value for record in records]
        counts = ", ".join(f"{statuses.count(word)} {word}" for word in dict.fromkeys(statuses))
        print(f"  sweep {sweep}: {counts or 'no runs'}")
    return 0


def _show(inventory: Inventory, names: list[str]) -> int:
    if len(names) != 1:
        raise UsageError("name one result by its key: runner store show KEY")
    found = inventory.find(names[0])
    if not found:
        raise UsageError(f"the store has no result {names[0]}: runner store list")
    for one in found:
        address = one.address
        print(f"{address}  {_megabytes([one])} MB, {_age(one.modified)}")
        print(f"  {one.directory}")
        if read_seal(one.directory) is None:
            print("  made before results were sealed: what it was made from is not known")
        for title, lines in (
            ("made from", inventory.made_from(address)),
            ("used by", inventory.used_by(address)),
            ("in run", inventory.runs_of(address)),
        ):
            for line in lines:
                print(f"  {title} {line}")
    return 0


def _verify(inventory: Inventory, names: list[str]) -> int:
    chosen = [one for name in names or [""] for one in inventory.find(name)]
    if names and not chosen:
        raise UsageError(f"the store has no result {', '.join(names)}: runner store list")
    unsealed = bad = 0
    for one in chosen:
        found = faults(one.directory)
        unsealed += not found and read_seal(one.directory) is None
        bad += bool(found)
        for fault in found:
            print(f"{one.address}: {fault}")
    print(f"{len(chosen) - bad - unsealed} sound, {bad} damaged, {unsealed} without digests")
    if bad:
        print("a damaged result is made anew once its directory is deleted")
    return 1 if bad else 0


def _prune(inventory: Inventory, names: list[str]) -> int:
    yes = _YES in names
    names = [name for name in names if name != _YES]
    if unknown := [name for name in names if name not in inventory.sweeps]:
        known = ", ".join(inventory.sweeps) or "none"
        raise UsageError(f"there is no sweep {', '.join(unknown)}; there are {known}")
    for name in names:
        if at_it := [r.run for r in inventory.sweeps[name] if r.status is Status.running]:
            raise UsageError(f"sweep {name} is running: {', '.join(at_it)}")
    unneeded = inventory.unneeded(without=names)
    total = _megabytes(unneeded)
    for one in unneeded:
        print(f"{one.address}  {_megabytes([one])} MB, {_age(one.modified)}")
    if not yes:
        print(f"{len(unneeded)} results, {total} MB: runner store prune --yes deletes them"
              f"{' and the records of ' + ', '.join(names) if names else ''}")  # fmt: skip
        return 0
    for name in names:
        inventory.remove_sweep(name)
    removed = sum(inventory.remove(one) for one in unneeded)
    print(f"{removed} of {len(unneeded)} results deleted, {total} MB")
    return 0


def _megabytes(held: Iterable[Held]) -> str:
    return f"{sum(one.size_bytes for one in held) / 1e6:.1f}"


def _age(modified: float) -> str:
    seconds = max(0.0, time.time() - modified)
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return "just now"
