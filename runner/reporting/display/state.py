"""Progress of a sweep, its run and the run's stage, and the time left."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from runner.reporting.rows import rows_of
from runner.store.records import RunRecord, Status

WAITING, RUNNING = "waiting", "running"
_NO_WORK_SECONDS = 1.0
"""A run that is over sooner was skipped, or kept as it was: it says nothing of others."""


@dataclass
class StageState:
    """A stage that is being carried out."""

    title: str
    is_step: bool = False
    """Whether the run is made up of such; what those need besides (texts, tokens) is quick."""
    began: float = field(default_factory=time.monotonic)
    what: str = ""
    done: int = 0
    total: int = 0
    _start: int = 0
    """Units that were finished when the phase began."""
    _first: tuple[int, float] | None = None
    """Units finished when the phase first got further, and when that was."""

    def update(self, done: int, total: int, what: str) -> None:
        """Note ``done`` of ``total`` units; another ``what`` or total begins another phase."""
        if (what, total) != (self.what, self.total) or done < self.done:
            self._start, self._first = done, None
        elif self._first is None and done > self._start:
            self._first = (done, time.monotonic())
        self.done, self.total, self.what = done, total, what

    @property
    def fraction(self) -> float:
        """Share of the phase that is done."""
        # A phase of one unit is one of which nothing is known before its end.
        return self.done / self.total if self.total > 1 else 0.0

    def seconds_left(self) -> float | None:
        """Until the phase is over, at the pace of its finished units; ``None`` if unknown.

        The first unit is left out: it often pays for what all others find ready.
        """
        if self._first is None or self.done <= self._first[0]:
            return None
        units, moment = self._first
        pace = (time.monotonic() - moment) / (self.done - units)
        return pace * (self.total - self.done)


@dataclass
class RunState:
    """A run that is being carried out."""

    name: str
    model: str
    steps: int
    """Stages it is made up of."""
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    stages: list[StageState] = field(default_factory=list)
    """Those under way, the innermost last."""
    _advance: tuple[float, float] = (0.0, 0.0)
    """The last fraction that differed from the one before, and the seconds it took to get there."""

    @property
    def stage(self) -> StageState | None:
        """The innermost stage under way."""
        return self.stages[-1] if self.stages else None

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.began

    @property
    def fraction(self) -> float:
        """Share of its stages that is done, each taken as long as any other."""
        outer = self.stages[0] if self.stages else None
        part = outer.fraction if outer is not None and outer.is_step else 0.0
        return min(1.0, (self.done + part) / max(self.steps, self.done, 1))

    def seconds_left(self) -> float | None:
        """A guess from what is done of it; ``None`` where nothing is yet, or it took longer."""
        fraction, elapsed = self.fraction, self.elapsed
        if fraction != self._advance[0]:
            self._advance = (fraction, elapsed)
        if fraction == 0:
            return None
        # A stage that tells nothing until its end must not push the end away.
        _, then = self._advance
        left = then * (1 - fraction) / fraction - (elapsed - then)
        return left if left > 0 else None


@dataclass
class Line:
    """A run of the sweep in the live table."""

    title: str
    state: str = WAITING
    seconds: float | None = None
    bits_per_weight: float | None = None
    perplexity: float | None = None
    decode_tokens_per_second: float | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, however."""
        return self.state not in (WAITING, RUNNING)

    def take(self, record: RunRecord) -> None:
        """Show how a run ended, and its figures."""
        self.title, self.state, self.seconds = record.run, record.status.value, record.seconds
        rows = rows_of([record]) if record.status is Status.ok else []
        for row in [row for row in rows if not row.is_floor][-1:]:
            self.bits_per_weight = row.bits_per_weight
            self.perplexity = row.perplexity
            self.decode_tokens_per_second = row.decode_tokens_per_second


@dataclass
class SweepState:
    """All runs of a sweep."""

    name: str
    lines: list[Line]
    places: dict[int, int] = field(default_factory=dict)
    """Of runs among the lines, by their numbers."""
    began: float = field(default_factory=time.monotonic)

    def line_of(self, record: RunRecord) -> Line | None:
        """The run's line; ``None`` where it has none."""
        place = self.places.get(record.number)
        return None if place is None else self.lines[place]

    @property
    def over(self) -> int:
        """Runs that have ended."""
        return sum(line.is_over for line in self.lines)

    def seconds_left(self, run: RunState | None) -> float | None:
        """Until the last run is over, from the mean of those that did work; ``None`` if unknown."""
        waiting = sum(line.state == WAITING for line in self.lines)
        if run is None and any(line.state == RUNNING for line in self.lines):
            # Elsewhere, and maybe several at a time.
            rest = len(self.lines) - self.over
            return (time.monotonic() - self.began) / self.over * rest if self.over else None
        took = [s for line in self.lines if (s := line.seconds or 0.0) > _NO_WORK_SECONDS]
        own = run.seconds_left() if run is not None else 0.0
        mean = sum(took) / len(took) if took else None
        if run is not None and mean is not None:
            own = max(mean - run.elapsed, 0.0) if own is None else own
        elif run is not None and own is not None:
            mean = run.elapsed + own
        if own is None or (mean is None and waiting):
            return None
        return own + waiting * (mean or 0.0)

    def counts(self) -> str:
        """How many runs have ended how: ``3 ok, 1 failed``."""
        ended = [line.state for line in self.lines if line.is_over]
        return ", ".join(f"{ended.count(state)} {state}" for state in dict.fromkeys(ended))


def distinct_titles(jobs: Sequence[Sequence[str]]) -> list[str]:
    """What tells each job of a sweep from the others: its overrides without those all have."""
    shared = set(jobs[0]).intersection(*jobs[1:]) if jobs else set()
    return [" ".join(one for one in job if one not in shared) or " ".join(job) for job in jobs]


def duration(seconds: float) -> str:
    """Rounded as one would say it: ``40 s``, ``3 min``, ``2 h 10 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"


def clock(seconds: float) -> str:
    """Elapsed time: ``0:07``, ``12:40``, ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
