"""What crosses between the control process and a worker.

Control to server, one JSON line a job on standard input: a ``Job``.
Server to control, one JSON object a line on standard output, by ``event``:

- ``ready``: the server has imported its modules;
- ``started`` (pid): a job's process exists;
- ``progress`` (done, total, what): a job tells how far it is;
- ``error`` (kind, message): a job ends with a Python exception;
- ``exit`` (code, signal): a job's process is gone.

Requests and results are JSON files, not messages.
"""

from dataclasses import dataclass


@dataclass
class Job:
    """One stage to carry out."""

    stage: str
    request: dict[str, object]
    """JSON form of the stage's request."""
    output: str
    """Staging directory; the job writes ``result_file`` there."""
    result_file: str
    partial: str
    """Directory of what earlier attempts at the same result have finished; may not exist."""
    cache: str
    """Directory for downloads."""
    log: str
    """File that gets the job's standard output and error."""
    threads: int
