"""Notes on the quality figures of an answer, below the table, on the page, in Markdown."""

from collections.abc import Sequence

from runner.data.texts.sample import describe
from runner.reporting.floor import answers_at_floor, at_floor
from runner.reporting.rows import Row
from runner.reporting.scale import small_model_note
from runner.store.records import Status

_NAMED = 3
"""Recipes that a sentence lists; more are counted."""
STAR = (
    "★ Pareto-optimal (size, quality, speed): a larger row is starred only if it is significantly "
    "faster or better (the 95% interval of the difference excludes zero)."
)

SAME_SPEED = "~ not significantly different from 1.00x; treated as equal."


def quality_notes(rows: list[Row]) -> list[str]:
    """What intervals speak of, where evaluated tokens come from, what arithmetic and machines do.

    And which speeds are not those of a recipe.

    Args:
        rows: Of one model.
    """
    rows = [row for row in rows if row.status == Status.ok.value]
    return [
        *_sampling(rows), *_draws(rows), *_floor(rows), *_machines(rows), *_dense(rows),
        *small_model_note(rows),
    ]  # fmt: skip


def _machines(rows: list[Row]) -> list[str]:
    names = list(dict.fromkeys(row.machine for row in rows if row.machine))
    if len(names) < 2:
        return []
    return [f"Speeds are of {len(names)} machines ({'; '.join(names)}) and compared within each."]


def alike(rows: Sequence[Row]) -> str:
    """Names of rows, the first few of many."""
    names = list(dict.fromkeys(row.recipe for row in rows))
    left = len(names) - _NAMED
    if left < 2:
        return ", ".join(names)
    return f"{', '.join(names[:_NAMED])} and {left} more"


def _sampling(rows: list[Row]) -> list[str]:
    """One sentence for each sample; of rows that share one, that whose windows are most alike."""
    samples: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        if row.sample is not None and not row.is_floor:
            where = (row.text or "", row.perplexity_protocol or "", row.sample.tokens_sha256)
            samples.setdefault(where, []).append(row)
    notes = []
    for (text, protocol, _), own in samples.items():
        compared = [row for row in own if not row.is_baseline] or own
        least = min(compared, key=lambda row: row.effective_windows or float("inf"))
        assert least.sample is not None
        described = describe(least.sample, least.icc, least.effective_windows)
        if described is not None:
            of = f"{protocol} of {text}: " if len(samples) > 1 else ""
            notes.append(f"{of}{described}.")
    return notes


def _draws(rows: list[Row]) -> list[str]:
    notes = []
    several = [row for row in rows if (row.seeds or 0) > 1]
    single = [row for row in rows if row.seeds == 1 and row.perplexity is not None]
    if several:
        counts = " or ".join(str(count) for count in sorted({row.seeds or 0 for row in several}))
        notes.append(
            f"{alike(several)}: {counts} calibration seeds; intervals cover both the seeds and "
            "the evaluated text (crossed random effects), sizes and speeds are means."
        )
    if single:
        notes.append(
            f"{alike(single)}: one calibration seed; the interval covers the evaluated text, not "
            "other seeds (set calibration.seed=0,1,2,3 to include them)."
        )
    return notes


def dense_mark(row: Row) -> str:
    """What stands behind a speed that is not the quantized model's."""
    return "†" if row.decode_of_dense and row.decode_tokens_per_second is not None else ""


def _dense(rows: list[Row]) -> list[str]:
    marked = [row for row in rows if dense_mark(row)]
    if not marked:
        return []
    engines = " and ".join(sorted({row.engine for row in marked}))
    return [
        f"† measured on dequantized weights, which {engines} makes when it loads these formats: "
        "speed and memory say nothing of kernels for them."
    ]


def _floor(rows: list[Row]) -> list[str]:
    floors = [row for row in rows if row.is_floor]
    notes = [
        f"{row.recipe}: the arithmetic alone, without any recipe: {effects}; smaller differences "
        "cannot be resolved."
        for row in floors
        if not _is_nothing(row) and (effects := _effects(row))
    ]
    if nothing := [row for row in floors if _is_nothing(row)]:
        notes.append(f"{alike(nothing)}: the arithmetic alone, without any recipe: no change.")
    if any(at_floor(row) for row in rows):
        notes.append("≤ the KL divergence may come from the arithmetic alone.")
    if same := [row for row in rows if answers_at_floor(row)]:
        notes.append(f"~ {alike(same)}: the difference in accuracy may come from the arithmetic.")
    return notes


def _is_nothing(row: Row) -> bool:
    """Whether varying the arithmetic changed no digit."""
    said = (row.kl_divergence, row.perplexity_delta, row.task_answers_changed)
    return not any(said) and any(one is not None for one in said)


def _effects(row: Row) -> str:
    """What varying the arithmetic did."""
    said = []
    if row.kl_divergence is not None:
        said.append(f"KL divergence {max(0.0, row.kl_divergence):.4f}")
    if row.top_1_agreement is not None:
        said.append(f"{1 - row.top_1_agreement:.1%} flips")
    if row.task_answers is not None:
        said.append(
            f"{row.task_answers_changed:.0f} of {row.task_answers:.0f} answers changed "
            f"({row.task_answers_lost:.0f} lost, {row.task_answers_gained:.0f} gained)"
        )
    return ", ".join(said)
