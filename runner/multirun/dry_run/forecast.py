"""How long each run of a sweep is going to take, by what such work took on this machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from runner.config.schema.root import Config
from runner.errors import RunnerError
from runner.multirun.dry_run.session import PeekSession
from runner.pipeline.experience.durations import REST, START, kind_of
from runner.pipeline.judge import judge
from runner.pipeline.record import RunIdentity, done_record
from runner.pipeline.stages import loads_model

_MOST_RUNS = 100
"""Of a sweep that is looked through; of a longer one nothing is said."""


def forecast(
    jobs: Sequence[Sequence[str]],
    configs: Mapping[tuple[str, ...], Config | None],
    numbers: Mapping[int, int],
    sweep: str,
) -> list[float | None]:
    """Seconds of each run, without what the store has; ``None`` where some of it is not known.

    Args:
        jobs: Overrides of each run.
        configs: Of runs by their overrides, as far as they are known.
        numbers: Of runs by their places among the jobs, where the two differ.
        sweep: Its id.
    """
    if len(jobs) > _MOST_RUNS:
        return []
    found: list[float | None] = []
    started: set[str] = set()
    session: PeekSession | None = None
    for place, job in enumerate(jobs):
        if (config := configs.get(tuple(job))) is None:
            found.append(None)
            continue
        root = Path(config.store.root).expanduser().resolve()
        if session is None or session.store.root != root:
            session = PeekSession(root, Path(config.store.environments).expanduser().resolve())
        identity = RunIdentity(sweep, numbers.get(place, place), list(job))
        found.append(_seconds(session, config, identity, started))
    return found


def _seconds(
    session: PeekSession, config: Config, identity: RunIdentity, started: set[str]
) -> float | None:
    if not loads_model(config):
        return 0.0  # it plans, or reads records
    try:
        if judge(config, session.machine, identity.overrides).reasons:
            return 0.0
        if done_record(session.store.runs, config, session.machine, identity) is not None:
            return 0.0
    except (RunnerError, OSError):  # the run itself will tell
        return None
    seen, known = session.look(config, identity.sweep), session.clock.known(config)
    work = [known.seconds(kind_of(stage, title, config)) for stage, title in seen.missing]
    work += [known.seconds(kind_of(START, one, config)) for one in seen.starting - started]
    if seen.missing:
        work.append(known.seconds(kind_of(REST, REST, config)))
    started |= seen.starting
    sure = [seconds for seconds in work if seconds is not None]
    return sum(sure) if len(sure) == len(work) and seen.unknown is None else None
