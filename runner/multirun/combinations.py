"""Configurations of a sweep's jobs; each distinct part is composed once.

Composing takes Hydra a tenth of a second, and a sweep of ten thousand jobs is made of some dozens
of overrides. So each override is composed alone, in the place of the one that the first job has,
and what it changes is noted: ``bits=w8a16`` changes ``bits``. Another job is the first one with the
changes of its own overrides. Where two overrides change the same field they are composed together.

That leaves what two overrides do together and neither alone. A sample of jobs is composed whole;
should one differ, all are.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from typing import Any

from runner.config.schema.root import Config
from runner.errors import UsageError
from runner.util.progress import progress

Job = Sequence[str]
Compose = Callable[[list[str]], Config | None]
Path = tuple[str, ...]
Changes = dict[Path, Any]

_FEW = 12
"""Jobs up to which each is composed whole."""
_SAMPLES = 6
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")


class Combinations:
    """Finds a job's configuration."""

    def __init__(self, jobs: Sequence[Job], compose: Compose) -> None:
        """Compose the parts that the jobs are made of.

        Args:
            jobs: Overrides of each job.
            compose: Composes one job whole; ``None`` where that is to be left to the job.
        """
        self._compose = compose
        by_keys: dict[Path, list[Job]] = {}
        for job in jobs:
            by_keys.setdefault(_keys(job), []).append(job)
        self._kinds: dict[Path, _Kind | None] = {}
        for keys, own in by_keys.items():
            self._kinds[keys] = _kind(keys, own, compose)

    def config(self, job: Job) -> Config | None:
        """The configuration of one of the jobs; treat it as one that others share.

        Raises:
            UsageError: It does not compose, or makes no sense.
        """
        kind = self._kinds.get(_keys(job))
        return self._compose(list(job)) if kind is None else kind.config(job)

    def knows(self, job: Job) -> bool:
        """Whether a job's configuration takes no composing."""
        return self._kinds.get(_keys(job)) is not None


class _Kind:
    """Jobs that say something of the same keys."""

    def __init__(self, keys: Path, jobs: list[Job], compose: Compose) -> None:
        self._keys = keys
        self._first = list(jobs[0])
        self._jobs = len(jobs)
        self._whole = compose
        base = compose(self._first)
        if base is None:
            raise _NotApart
        self._base = base
        differing = [at for at in range(len(keys)) if len({job[at] for job in jobs}) > 1]
        self._together: list[list[int]] = [[at] for at in differing]
        self._parts: dict[tuple[int, ...], dict[tuple[str, ...], Changes]] = {}
        while True:
            self._note_changes(jobs)
            if (pair := self._conflict()) is None:
                break
            one, other = pair
            self._together.remove(other)
            one += other

    def config(self, job: Job) -> Config:
        changes: list[tuple[Path, Any]] = []
        for places in self._together:
            changes += self._parts[tuple(places)][tuple(job[at] for at in places)].items()
        return _patched(self._base, changes)

    def _note_changes(self, jobs: list[Job]) -> None:
        missing: list[tuple[list[int], list[tuple[str, ...]]]] = []
        for places in self._together:
            if tuple(places) not in self._parts:
                wanted = [*dict.fromkeys(tuple(job[at] for at in places) for job in jobs)]
                missing.append((places, wanted))
        needed = sum(len(wanted) for _, wanted in missing if len(wanted) <= _FEW)
        if len(self._parts) + needed + _SAMPLES > len(jobs):
            raise _NotApart
        with progress("composing the runs", needed) as composed:
            for places, wanted in missing:
                self._parts[tuple(places)] = self._changes(places, wanted, composed)

    def _changes(
        self, places: list[int], wanted: list[tuple[str, ...]], composed: Callable[[], None]
    ) -> dict[tuple[str, ...], Changes]:
        changes: dict[tuple[str, ...], Changes] = {}
        if len(places) == 1 and len(wanted) > _FEW:
            changes = self._numbers(places[0], [one[0] for one in wanted])
            if not changes and 2 * len(wanted) > self._jobs:
                raise _NotApart
        for overrides in wanted:
            if overrides not in changes:
                changes[overrides] = self._changed(places, overrides)
                composed()
        return changes

    def _numbers(self, place: int, overrides: list[str]) -> dict[tuple[str, ...], Changes]:
        """Changes of many numbers of one field: that of the least and the largest tell all."""
        texts = [override.partition("=")[2] for override in overrides]
        if not all(_NUMBER.fullmatch(text) for text in texts):
            return {}
        ends = [min(texts, key=float), max(texts, key=float)]
        key = self._keys[place]
        path = tuple(key.split("."))
        kinds = set()
        for text in ends:
            changes = self._changed([place], (f"{key}={text}",))
            value = changes.get(path, _at(self._base, path))
            if changes.keys() - {path} or value != float(text):
                return {}
            kinds.add(type(value))
        kind = kinds.pop()
        if kinds or kind not in (int, float):
            return {}
        try:
            values = [kind(text) for text in texts]
        except ValueError:
            return {}
        return {
            (override,): {path: value} for override, value in zip(overrides, values, strict=True)
        }

    def _changed(self, places: list[int], overrides: tuple[str, ...]) -> Changes:
        job = list(self._first)
        for place, override in zip(places, overrides, strict=True):
            job[place] = override
        if job == self._first:
            return {}
        config = self._whole(job)
        if config is None:
            raise _NotApart
        return dict(_differences(self._base, config, ()))

    def _conflict(self) -> tuple[list[int], list[int]] | None:
        """Two sets of keys of which one changes what the other does, or a part of it."""
        owners: dict[Path, int] = {}
        above: dict[Path, set[int]] = {}
        for number, places in enumerate(self._together):
            paths = {path for one in self._parts[tuple(places)].values() for path in one}
            for path in paths:
                rivals = {owners[path]} if path in owners else set()
                rivals |= above.get(path, set())
                rivals |= {owners[path[:n]] for n in range(len(path)) if path[:n] in owners}
                if rivals - {number}:
                    return self._together[min(rivals - {number})], places
            for path in paths:
                owners[path] = number
                for n in range(len(path)):
                    above.setdefault(path[:n], set()).add(number)
        return None


class _NotApart(Exception):
    """The jobs have to be composed whole."""


def _kind(keys: Path, jobs: list[Job], compose: Compose) -> _Kind | None:
    if len(jobs) <= _FEW or len(set(keys)) < len(keys):
        return None
    try:
        kind = _Kind(keys, jobs, compose)
        for job in random.Random(0).sample(jobs, _SAMPLES):
            whole, put_together = compose(list(job)), kind.config(job)
            if whole is None or any(_differences(whole, put_together, ())):
                return None
    except (_NotApart, UsageError):
        # What is wrong is told of the job that has it.
        return None
    return kind


def _keys(job: Job) -> Path:
    return tuple(override.partition("=")[0] for override in job)


def _differences(one: Any, other: Any, place: Path) -> Iterator[tuple[Path, Any]]:
    """Fields of ``other`` that differ from those of ``one``; a section of another type as one."""
    if is_dataclass(one) and type(one) is type(other) and vars(one).keys() == vars(other).keys():
        for name, content in vars(one).items():
            yield from _differences(content, getattr(other, name), (*place, name))
    # 1, 1.0 and True are equal, and not the same.
    elif repr(one) != repr(other):
        yield place, other


def _at(section: Any, path: Path) -> Any:
    for name in path:
        section = getattr(section, name, None)
    return section


def _patched(base: Config, changes: Sequence[tuple[Path, Any]]) -> Config:
    """A copy with some fields changed; sections without changes are the base's own."""
    patched: Config = _copied(base)
    copies: dict[Path, Any] = {(): patched}
    for path, value in changes:
        section: Any = patched
        for depth, name in enumerate(path[:-1], 1):
            place = path[:depth]
            if place not in copies:
                copies[place] = vars(section)[name] = _copied(vars(section)[name])
            section = copies[place]
        vars(section)[path[-1]] = value
    return patched


def _copied(section: Any) -> Any:
    copied = object.__new__(type(section))
    vars(copied).update(vars(section))
    return copied
