"""Metadata of a model card, and results in the forms that the hub reads.

The card's front matter has a ``model-index``; ``.eval_results/*.yaml`` are what leaderboards of
benchmark data sets collect (https://huggingface.co/docs/hub/eval-results), so they tell of tasks
whose data set lies on the hub alone.
"""

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.release.licence import Licence
from runner.release.subject import Subject
from runner.reporting.row import Row
from runner.reporting.scores import Cell

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, EvalResultEntry, ModelCardData

_TASK = "text-generation"
_FILE = Path(__file__).with_name("benchmarks.yaml")
_LIBRARIES = {
    "compressed-tensors": "transformers",
    "bitsandbytes": "transformers",
    "gptq": "transformers",
    "awq": "transformers",
    "auto-round": "transformers",
    "gguf": "gguf",
}
"""``library_name`` of the hub by format."""


def card_data(
    subject: Subject, name: str, base_model: str | None, licence: Licence
) -> "ModelCardData":
    """The card's front matter.

    Args:
        subject: What is handed on.
        name: Of the checkpoint, for ``model-index``.
        base_model: Repository of the base model on the hub.
        licence: Of the checkpoint.
    """
    from huggingface_hub import ModelCardData

    results = [*_text_results(subject), *_task_results(subject)]
    made = subject.made
    method = subject.record.config["method"]["name"]
    data = ModelCardData(
        base_model=base_model,
        library_name=_LIBRARIES.get(made.checkpoint_format),
        license=licence.id,
        license_name=licence.name,
        license_link=licence.link,
        model_name=name if results else None,
        pipeline_tag=_TASK,
        tags=["quant-runner", "quantized", method, made.checkpoint_format],
        eval_results=results or None,
    )
    if base_model is not None:
        data["base_model_relation"] = "quantized"
    return data


def _text_results(subject: Subject) -> "Iterator[EvalResult]":
    row = subject.row
    if row.perplexity is None or row.text is None:
        return
    of = f"{row.perplexity_protocol} on {row.text}, {row.arithmetic}"
    base = subject.unquantized
    against = "" if base is None or base.perplexity is None else f"; unquantized {base.perplexity}"
    yield _result(subject, "perplexity", f"perplexity/{of}{against}", row.perplexity)
    if row.kl_divergence is not None:
        name = f"KL(unquantized || this) in nats a token, {of}"
        yield _result(subject, "kl_divergence", name, row.kl_divergence)
    if row.top_1_agreement is not None:
        name = f"share of tokens with the same most likely token, {of}"
        yield _result(subject, "top_1_agreement", name, row.top_1_agreement)


def _result(subject: Subject, kind: str, name: str, value: float) -> "EvalResult":
    from huggingface_hub import EvalResult

    text: dict[str, Any] = subject.record.config["eval"]["text"]
    return EvalResult(
        task_type=_TASK,
        dataset_type=text.get("hub_id") or text["name"],
        dataset_name=text["name"],
        dataset_revision=text.get("revision") if text.get("hub_id") else None,
        metric_type=kind,
        metric_name=name,
        metric_value=value,
    )


def scores_of(subject: Subject, row: Row) -> dict[str, Cell]:
    """A row's scores by ``metric/task``; none where no task was asked."""
    number = subject.rows.index(row)
    return next((line.cells for line in subject.scores if line.row == number), {})


def _task_results(subject: Subject) -> "Iterator[EvalResult]":
    from huggingface_hub import EvalResult

    for name, cell in scores_of(subject, subject.row).items():
        metric, _, task = name.partition("/")
        known = _benchmarks().get(task, {})
        yield EvalResult(
            task_type=_TASK,
            dataset_type=known.get("dataset", task),
            dataset_name=task,
            dataset_config=known.get("config"),
            metric_type=metric,
            metric_name=name,
            metric_value=cell.value,
        )


def eval_results(subject: Subject) -> "dict[str, list[EvalResultEntry]]":
    """Entries by the name of their file in ``.eval_results``: a file a benchmark."""
    from huggingface_hub import EvalResultEntry

    config = subject.record.config.get("tasks", {})
    found: dict[str, list[EvalResultEntry]] = {}
    for name, cell in scores_of(subject, subject.row).items():
        metric, _, task = name.partition("/")
        known = _benchmarks().get(task)
        if known is None or metric != known["metric"]:
            continue
        shots = config.get("fewshot", {}).get(task, config.get("num_fewshot"))
        found[f"{task}.yaml"] = [
            EvalResultEntry(
                dataset_id=known["dataset"],
                task_id=known["task"],
                value=round(100 * cell.value, 2),
                date=subject.record.started[:10],
                notes=f"lm-evaluation-harness, {metric}, {shots} shots, {subject.record.label}",
            )
        ]
    return found


@functools.cache
def _benchmarks() -> dict[str, dict[str, str]]:
    import yaml

    content: dict[str, dict[str, str]] = yaml.safe_load(_FILE.read_text("utf-8"))
    return content
