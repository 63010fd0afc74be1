"""Whether a sweep goes on after runs of it have failed."""

from runner.config.schema.root import Config
from runner.pipeline.record import RunIdentity, new_record
from runner.pipeline.session import Session
from runner.store.records import Status, read_records, write_record

_BAD = frozenset({Status.failed, Status.oom, Status.timeout})


def should_run(config: Config, session: Session, identity: RunIdentity) -> bool:
    """Whether this run may begin. If not, it is recorded as cancelled, with the reason.

    It is decided from the records of the sweep's other runs, so it holds wherever they run. A
    failure that an earlier start of the sweep left of this very run does not count: it is redone.

    Raises:
        UsageError: ``launch.on_failure`` is no policy.
    """
    most = config.launch.max_failures
    if most is None:
        return True
    record = new_record(config, session.machine, identity)
    others = read_records(session.store.runs, identity.sweep)
    # Runs behind this one are yet to be redone: their failures are those of an earlier start.
    failed = [r.run for r in others if r.status in _BAD and r.number < identity.number]
    if len(failed) < most:
        return True
    record.status = Status.cancelled
    who = ", ".join(failed[:3])
    record.reason = f"not started: launch.on_failure={config.launch.on_failure}, and {who} failed"
    record.seconds = 0.0
    write_record(session.store.runs, record)
    session.display.line(f"{record.run}  cancelled: {record.reason}", style="yellow")
    return False
