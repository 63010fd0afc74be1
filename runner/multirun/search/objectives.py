"""What a search minimizes or maximizes: columns of the answer."""

from collections.abc import Sequence
from dataclasses import dataclass

from runner.errors import UsageError
from runner.store.records import RunRecord, Status

_MAXIMIZED = {
    "perplexity": False,
    "perplexity_ratio": False,
    "kl_divergence": False,
    "top_1_agreement": True,
    "task_accuracy": True,
    "bits_per_weight": False,
    "checkpoint_bytes": False,
    "peak_memory_bytes": False,
    "decode_tokens_per_second": True,
    "time_to_first_token_seconds": False,
}


@dataclass(frozen=True)
class Objective:
    """A column of the answer, and which way is better."""

    name: str
    maximized: bool


def objectives_of(names: Sequence[str]) -> list[Objective]:
    """The objectives of these names, each once.

    Raises:
        UsageError: One does not exist, or there is none.
    """
    unknown = [name for name in names if name not in _MAXIMIZED]
    if unknown or not names:
        raise UsageError(
            f"hydra.sweeper.objectives has no {', '.join(unknown) or 'entry'}; choose from "
            f"{', '.join(_MAXIMIZED)}"
        )
    return [Objective(name, _MAXIMIZED[name]) for name in dict.fromkeys(names)]


def measured(record: RunRecord, objectives: Sequence[Objective]) -> list[float] | None:
    """A run's values, in the order of the objectives; ``None`` unless it is ok and has all.

    Raises:
        UsageError: It is ok but its stages do not measure one of them.
    """
    from runner.reporting.rows import rows_of
    from runner.reporting.speed import shown_first_token, shown_speed

    if record.status is not Status.ok:
        return None
    rows = [row for row in rows_of([record]) if not row.is_floor]
    values = {one.name: getattr(rows[-1], one.name) for one in objectives}
    # Trials lie minutes apart: what the machine did meanwhile is none of the recipe's doing.
    if "decode_tokens_per_second" in values:
        values["decode_tokens_per_second"] = shown_speed(rows)(rows[-1])
    if "time_to_first_token_seconds" in values:
        values["time_to_first_token_seconds"] = shown_first_token(record, rows[-1])
    if missing := [name for name, value in values.items() if value is None]:
        raise UsageError(
            f"{record.run} has no {', '.join(missing)}: add the stage that measures it to stages, "
            "or remove it from hydra.sweeper.objectives"
        )
    return [float(value) for value in values.values()]
