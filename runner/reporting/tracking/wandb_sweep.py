"""What W&B keeps of a whole sweep: its verdict, rows, charts, figures and page."""

from pathlib import Path
from typing import Any

from runner.config.schema.tracker import Tracker
from runner.reporting.rows import Row
from runner.reporting.tracking.alerts import alert_of_sweep
from runner.reporting.tracking.base import Log, SweepEnd
from runner.reporting.tracking.tables import runs_table
from runner.reporting.tracking.wandb_artifacts import MOST_NAME, artifact_name, shortened
from runner.reporting.tracking.wandb_run import open_run, run_id, send, table, tags
from runner.store.records import Status
from runner.util.redact import redact


def summarise(config: Tracker, end: SweepEnd, log: Log) -> None:
    """A run of its own for a whole sweep, and the alert that is wanted."""
    import wandb

    run = open_run(
        config,
        log,
        id=run_id(config, end.sweep, "summary"),
        name=shortened(f"{end.sweep} summary", MOST_NAME),
        group=shortened(redact(config.group or end.sweep), MOST_NAME),
        job_type="sweep",
        tags=tags(redact([*config.tags, "summary"])),
        config={"sweep": end.sweep},
    )
    run.log({"answer/rows": table(runs_table(end.rows)), **_charts(end.rows), **_files(end.files)})
    counts = {s.value: sum(r.status is s for r in end.records) for s in Status}
    run.summary.update({f"runs/{name}": count for name, count in counts.items() if count})
    run.summary.update(end.verdict())
    artifact = wandb.Artifact(artifact_name("answer", end.sweep), type="answer")
    for path in end.files:
        artifact.add_file(str(path))
    run.log_artifact(artifact)
    send(run, alert_of_sweep(config.alerts, end))
    failed = any(not record.status.without_fault for record in end.records)
    run.finish(exit_code=1 if failed else 0)


def _files(files: list[Path]) -> dict[str, Any]:
    """The page and the figures, to be looked at beside the charts."""
    import wandb

    shown: dict[str, Any] = {}
    for path in files:
        if path.suffix == ".png":
            shown[f"figures/{path.stem.replace('.', '_')}"] = wandb.Image(str(path))
        elif path.suffix == ".html":
            # It must not be changed: its content security policy names what it holds by digest.
            shown["answer/page"] = wandb.Html(str(path), inject=False)
    return shown


def _charts(rows: list[Row]) -> dict[str, Any]:
    """Quality over size and over speed; none where nothing was measured."""
    import wandb

    plots = {}
    for name, field in (("size", "checkpoint_bytes"), ("speed", "decode_tokens_per_second")):
        measured = [r for r in rows if None not in (getattr(r, field), r.perplexity)]
        if measured:
            points = [[getattr(r, field), r.perplexity, r.recipe, r.engine] for r in measured]
            table = wandb.Table(columns=[field, "perplexity", "recipe", "engine"], data=points)
            title = f"Perplexity over {field.replace('_', ' ')}"
            plots[f"answer/quality_over_{name}"] = wandb.plot.scatter(
                table, field, "perplexity", title
            )
    return plots
