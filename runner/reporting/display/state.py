"""Progress of a sweep, its run and the run's stage, and the time left."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from runner.reporting.rows import rows_of
from runner.store.records import RunRecord, Status

WAITING, RUNNING = "waiting", "running"
SILENT_SECONDS = 30.0
"""Without news, after which that is said."""


@dataclass
class StageState:
    """A stage that is being carried out."""

    title: str
    is_step: bool = False
    """Whether the run is made up of such; what those need besides (texts, tokens) is quick."""
    began: float = field(default_factory=time.monotonic)
    expected: float | None = None
    """Seconds that it will take, by what such work took here before."""
    what: str = ""
    done: int = 0
    total: int = 0
    _start: int = 0
    """Units that were finished when the phase began."""
    _first: tuple[int, float] | None = None
    """Units finished when the phase first got further, and when that was."""
    _advanced: float = 0.0
    """When it last got further."""
    _heard: float | None = None
    """When it last told anything."""

    def update(self, done: int, total: int, what: str) -> None:
        """Note ``done`` of ``total`` units; another ``what`` or total begins another phase."""
        now = self._heard = time.monotonic()
        if (what, total) != (self.what, self.total) or done < self.done:
            self._start, self._first = done, None
        elif self._first is None and done > self._start:
            self._first = (done, now)
        if done > self.done:
            self._advanced = now
        self.done, self.total, self.what = done, total, what

    @property
    def silent(self) -> float:
        """Seconds since it last told anything."""
        return time.monotonic() - (self.began if self._heard is None else self._heard)

    @property
    def fraction(self) -> float:
        """Share of the phase that is done."""
        # A phase of one unit is one of which nothing is known before its end.
        return self.done / self.total if self.total > 1 else 0.0

    def seconds_left(self) -> float | None:
        """At the pace of the phase's finished units, or as before; ``None`` if neither is known.

        The first unit is left out: it often pays for what all others find ready. What was wrong is
        no longer said: neither stands still.
        """
        now = time.monotonic()
        guesses = [] if self.expected is None else [self.expected - (now - self.began)]
        if self._first is not None and self.done > self._first[0]:
            units, moment = self._first
            pace = (self._advanced - moment) / (self.done - units)
            guesses.append(pace * (self.total - self.done) - (now - self._advanced))
        # Other phases may follow the one whose pace is known.
        left = max(guesses, default=0.0)
        return left if left > 0 else None


@dataclass
class RunState:
    """A run that is being carried out."""

    name: str
    model: str
    expected: Sequence[float | None]
    """Seconds of each stage that it is made up of, where they are known."""
    began: float = field(default_factory=time.monotonic)
    done: int = 0
    stages: list[StageState] = field(default_factory=list)
    """Those under way, the innermost last."""

    @property
    def steps(self) -> int:
        """Stages it is made up of."""
        return len(self.expected)

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
        """What its stage takes still and those that follow; ``None`` where one is not known."""
        outer = self.stages[0] if self.stages else None
        is_step = outer is not None and outer.is_step
        own = outer.seconds_left() if outer is not None else 0.0
        later = [*self.expected[self.done + is_step :]]
        if own is None and not is_step:
            own = 0.0  # texts, tokens and the like are quick
        known = [seconds for seconds in (own, *later) if seconds is not None]
        return sum(known) or None if len(known) == 1 + len(later) else None


@dataclass
class Line:
    """A run of the sweep in the live table."""

    title: str
    state: str = WAITING
    seconds: float | None = None
    expected: float | None = None
    """Seconds that it will take, by what such runs took here before."""
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
    is_expected: bool = False
    """Somebody has looked how long its runs are going to take."""

    def line_of(self, record: RunRecord) -> Line | None:
        """The run's line; ``None`` where it has none."""
        place = self.places.get(record.number)
        return None if place is None else self.lines[place]

    @property
    def over(self) -> int:
        """Runs that have ended."""
        return sum(line.is_over for line in self.lines)

    def seconds_left(self, run: RunState | None) -> float | None:
        """Until the last run is over; ``None`` where it is not known how long one takes."""
        waiting = [line.expected for line in self.lines if line.state == WAITING]
        if run is None and any(line.state == RUNNING for line in self.lines):
            # Elsewhere, and maybe several at a time.
            rest = len(self.lines) - self.over
            return (time.monotonic() - self.began) / self.over * rest if self.over else None
        own = run.seconds_left() if run is not None else 0.0
        known = [seconds for seconds in (own, *waiting) if seconds is not None]
        return sum(known) or None if len(known) == 1 + len(waiting) else None

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
