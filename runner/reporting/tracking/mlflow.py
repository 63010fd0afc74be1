"""Tracker ``mlflow``: MLflow, a folder of files unless ``tracker.uri`` names a server.

It is an extra (``pip install 'quant-runner[mlflow]'``): the skinny package suffices.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runner.config.schema.tracker import Tracker
from runner.pipeline.stages.base import Cells
from runner.reporting.flatten import flatten
from runner.reporting.tracking.base import (
    Log,
    SweepEnd,
    TrackerImplementation,
    named,
    require_library,
    stage_metrics,
    stage_tables,
    stage_words,
)
from runner.reporting.tracking.described import Pins, configuration, summary
from runner.reporting.tracking.progress import Progress
from runner.reporting.tracking.tables import runs_table
from runner.store.files import write_text_atomically
from runner.store.records import RunRecord, StageRecord, Status
from runner.util.redact import redact
from runner.util.serialise import to_json

_LIBRARY = ("mlflow", "pip install 'quant-runner[mlflow]'")
_MOST_PARAMETER = 6000
"""Characters of a parameter, as MLflow's own stores take them."""
_MOST_AT_ONCE = 100
"""Parameters, metrics or tags of one request."""
_TABLES = "mlflow.loggedArtifacts"
"""Tag in which MLflow lists the artifacts that it draws as tables."""
_CHECKPOINT, _PROMOTED = "quant_runner.checkpoint", "quant_runner.promoted"


def prepare(config: Tracker) -> None:
    """Import MLflow, which takes a second."""
    _client(config)


def start(config: Tracker, record: RunRecord, log: Log) -> "MlflowTracker":
    """Open a run, or the same one again when it is started again."""
    client = _client(config)
    tags = {"label": record.label, "model": record.model, "job_type": config.job_type}
    run = _open(client, config, record.sweep, record.run, tags)
    known = client.get_run(run).data.params
    parameters = {
        name: _text(value)
        for name, value in flatten(redact(configuration(record))).items()
        # A parameter cannot be changed, and is the same when a run is started again.
        if name not in known
    }
    _log_batches(client, run, params=_parameters(parameters))
    return MlflowTracker(client, run, client.get_run(run).info.start_time)


def summarise(config: Tracker, end: SweepEnd, log: Log) -> None:
    """A run of its own for a whole sweep: its verdict, its rows, its page and its figures."""
    client = _client(config)
    run = _open(client, config, end.sweep, "summary", {"job_type": "sweep"})
    _log_table(client, run, "answer/rows", runs_table(end.rows))
    for path in end.files:
        client.log_artifact(run, str(path), "figures" if path.suffix == ".png" else "answer")
    for name, text in end.verdict().items():
        client.set_tag(run, _flat(name), redact(text))
    counts = {s.value: sum(r.status is s for r in end.records) for s in Status}
    _log_metrics(client, run, {f"runs/{name}": n for name, n in counts.items() if n}, 0)
    failed = any(not record.status.without_fault for record in end.records)
    client.set_terminated(run, "FAILED" if failed else "FINISHED")


def promote(config: Tracker, record: RunRecord, log: Log) -> None:
    """Tag the run whose checkpoint passed the gate."""
    client = _client(config)
    run = _open(client, config, record.sweep, record.run, {_PROMOTED: "true"})
    client.set_terminated(run)


class MlflowTracker:
    """One MLflow run."""

    def __init__(self, client: Any, run: str, started: int) -> None:
        """Log to the run of that id; steps go on from ``started``, in milliseconds."""
        self._client = client
        self._run = run
        self._started = started / 1000
        self._stage = 0
        self._progress = Progress()

    def log_stage(self, stage: StageRecord) -> None:
        """One step a stage."""
        self._stage += 1
        metrics = {**stage_metrics(stage), named(stage, "reused"): float(stage.reused)}
        _log_metrics(self._client, self._run, metrics, self._stage)
        for name, word in stage_words(stage).items():
            self._client.set_tag(self._run, _flat(name), word)
        for name, cells in stage_tables(stage).items():
            _log_table(self._client, self._run, name, cells)

    def log_progress(self, title: str, done: int, total: int, what: str) -> None:
        """A step every few seconds: seconds since the run was begun."""
        if metrics := self._progress.metrics(title, done, total, what):
            seconds = int(time.time() - self._started)
            _log_metrics(self._client, self._run, metrics, seconds)

    def finish(self, record: RunRecord) -> None:
        """What decides, the record and the pins; and how the run ended."""
        client, run = self._client, self._run
        told = redact(summary(record))
        numbers = {n: v for n, v in told.items() if not isinstance(v, str)}
        _log_metrics(client, run, numbers, 0)
        for name in told.keys() - numbers.keys():
            client.set_tag(run, name, told[name])
        if (made := record.entry("quantize")) is not None:
            client.set_tag(run, _CHECKPOINT, made.key)
        if record.stages:
            client.log_dict(run, redact(to_json(record)), "record.json")
        client.log_dict(run, redact(Pins.of(record).content), "environments.json")
        ended = "FINISHED" if record.status.without_fault else "FAILED"
        client.set_terminated(run, "KILLED" if record.status is Status.interrupted else ended)


def _client(config: Tracker) -> Any:
    require_library(*_LIBRARY)
    # Its files are a store that MLflow keeps as it is, and asks for consent to.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    return MlflowClient(config.uri or (Path(config.directory).absolute() / "mlruns").as_uri())


def _open(client: Any, config: Tracker, sweep: str, run: str, tags: dict[str, str]) -> str:
    """The id of a run: the same one when it is started again."""
    from mlflow.exceptions import MlflowException

    kept = Path(config.directory) / "mlflow" / _identity(config, sweep, run)
    tags = {"sweep": config.group or sweep, "tags": ", ".join(config.tags), **tags}
    tags |= {"mlflow.note.content": config.notes or ""}
    told = {name: redact(text) for name, text in tags.items() if text}
    if kept.is_file():
        own = kept.read_text("utf-8")
        try:
            client.update_run(own, status="RUNNING")
            for name, text in told.items():
                client.set_tag(own, name, text)
            return own
        except MlflowException:  # deleted there
            pass
    experiment = client.get_experiment_by_name(config.project)
    if experiment is None:
        with contextlib.suppress(MlflowException):  # another process of the sweep was faster
            client.create_experiment(config.project)
        experiment = client.get_experiment_by_name(config.project)
    made = client.create_run(experiment.experiment_id, run_name=redact(f"{sweep}/{run}"), tags=told)
    begun: str = made.info.run_id
    write_text_atomically(kept, begun)
    return begun


def _identity(config: Tracker, sweep: str, run: str) -> str:
    """Name of the file that keeps a run's id, which MLflow chooses."""
    identity = f"{config.uri}\n{config.project}\n{sweep}\n{run}"
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:_MOST_PARAMETER]


def _parameters(values: dict[str, str]) -> list[Any]:
    from mlflow.entities import Param

    return [Param(name, text) for name, text in values.items()]


def _flat(name: str) -> str:
    """A name with one slash: MLflow takes all before the last one for the section."""
    section, slash, rest = name.partition("/")
    return section + slash + rest.replace("/", "_")


def _log_metrics(client: Any, run: str, metrics: dict[str, float], step: int) -> None:
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    told = [Metric(_flat(name), float(value), now, step) for name, value in metrics.items()]
    _log_batches(client, run, metrics=told)


def _log_batches(client: Any, run: str, **entities: list[Any]) -> None:
    for kind, every in entities.items():
        for some in _batches(every):
            client.log_batch(run, **{kind: some}, synchronous=True)


def _batches(entities: list[Any]) -> Iterator[list[Any]]:
    for first in range(0, len(entities), _MOST_AT_ONCE):
        yield entities[first : first + _MOST_AT_ONCE]


def _log_table(client: Any, run: str, name: str, cells: Cells) -> None:
    """As MLflow shows tables, where its own function would need pandas."""
    columns, rows = cells
    path = f"{name}.json"
    client.log_dict(run, {"columns": columns, "data": redact(rows)}, path)
    listed = json.loads(client.get_run(run).data.tags.get(_TABLES, "[]"))
    if (table := {"path": path, "type": "table"}) not in listed:
        client.set_tag(run, _TABLES, json.dumps([*listed, table]))


TRACKER = TrackerImplementation(
    start,
    summarise,
    promote,
    prepare,
    reads=frozenset({"directory", "group", "job_type", "notes", "project", "tags", "uri"}),
    library=_LIBRARY,
)
