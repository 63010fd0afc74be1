"""Messages between the control process and a worker.

Control to server, one JSON line on standard input: a ``Job``, or ``null``, which ends the process
that keeps a model.
Server to control, one JSON object a line on standard output, by ``event``:

- ``ready``: the server has imported its modules;
- ``started`` (pid): a job's process exists;
- ``progress`` (done, total, what): a job tells how far it is;
- ``error`` (kind, message): a job ends with a Python exception;
- ``exit`` (code, signal): a job is over, and its process gone unless it keeps a model;
- ``released``: no process keeps a model.

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
    """File that the control side writes the job's standard output and error to."""
    directory: str
    """Working directory: relative paths of the request start there."""
    threads: int
    model: str | None = None
    """Names the model that the job computes with, and how it is loaded. A process that has it
    carries the job out and keeps it for the next; ``None``: a process of the job's own."""
    beside: bool = False
    """It needs so little memory that another process may keep a model meanwhile."""
