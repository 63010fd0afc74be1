"""What trackers are told of a run besides its metrics: configuration, pins, and what decides."""

from dataclasses import dataclass
from typing import Any

from runner.reporting.row import Row
from runner.reporting.rows import rows_of
from runner.store.files import sha256_of_json
from runner.store.records import RunRecord

_ELSEWHERE = ("environment", "tracker", "report", "compare", "launch", "dry_run", "force")
"""Sections of a configuration that say nothing of a run, or fill a list of their own: pins."""
_SUMMARY = {
    "eval/perplexity": "perplexity",
    "eval/perplexity_ratio": "perplexity_ratio",
    "eval/kl_mean": "kl_divergence",
    "eval/top_1_agreement": "top_1_agreement",
    "tasks/mean_accuracy": "task_accuracy",
    "quantize/checkpoint_bytes": "checkpoint_bytes",
    "quantize/bits_per_weight": "bits_per_weight",
    "bench/decode_tokens_per_second": "decode_tokens_per_second",
    "bench/time_to_first_token_seconds": "time_to_first_token_seconds",
    "bench/peak_memory_bytes": "peak_memory_bytes",
}
"""Names in the summary of a run, and fields of its row of the answer."""


@dataclass(frozen=True)
class Pins:
    """The environments of a run, with the versions that their packages are pinned to."""

    digest: str
    content: dict[str, Any]

    @classmethod
    def of(cls, record: RunRecord) -> "Pins":
        """Those that a run's configuration names."""
        content = record.config.get("environment") or {}
        return cls(sha256_of_json(content)[:12], content)


def configuration(record: RunRecord) -> dict[str, Any]:
    """A run's configuration, and what of it a tracker has no room for elsewhere.

    Without the environments' pins, which are many and alike in most runs: ``environments`` is their
    digest.
    """
    sections = {name: own for name, own in record.config.items() if name not in _ELSEWHERE}
    return {
        **sections,
        "environments": Pins.of(record).digest,
        "sweep": record.sweep,
        # Whole, whatever the tracker has no room for.
        "run": record.run,
        "label": record.label,
        "overrides": record.overrides,
        "versions": record.versions,
        "host": record.host,
    }


def summary(record: RunRecord) -> dict[str, Any]:
    """The dozen values that decide, as in the answer; those that are known.

    Names of quality stand for the first protocol, which ``eval/protocol/…`` names are of.
    """
    told: dict[str, Any] = {"status": record.status.value}
    if record.reason is not None:
        told["reason"] = record.reason
    row = _row(record)
    if row is not None:
        content = row.content() | row.further
        own = {name: content[field] for name, field in _SUMMARY.items()} | row.further
        told |= {name: value for name, value in own.items() if value is not None}
    return told


def _row(record: RunRecord) -> Row | None:
    """The run's own row; of a run of the unquantized model that model's."""
    rows = [row for row in rows_of([record]) if not row.is_floor]
    return rows[-1] if rows else None
