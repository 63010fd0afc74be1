"""What would be better at an audited checkpoint's size: measured in this store, or to be tried."""

import shlex
from collections.abc import Iterator, Sequence

from runner.config.schema.model import Model
from runner.config.words import as_typed
from runner.engines import engine_names, find_engine, reader_of
from runner.engines.base import CheckpointFacts
from runner.errors import UsageError
from runner.methods import capabilities_of, find_method
from runner.planning.commands import made_with, model_words
from runner.planning.formats import find_format
from runner.planning.model_shape import Shape
from runner.reporting.rows import Row, rows_of
from runner.reporting.told_apart import Contrasts
from runner.store.records import RunRecord, Status
from runner.util.serialise import from_json
from runner.validation.layers import linear_inputs

_TO_TRY = (
    "w8a16-g64", "w8a16-per_channel", "w4a16-g32", "nf4", "w4a16-g64", "w4a16-g128",
    "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m",
)  # fmt: skip
TO_TRY = "to be tried at this size: "
"""What a command is told after."""
_MOST = 2
_OTHERWISE = ("stages", "model", "audit", "sweep", "engine", "decide", "report")
"""What an audit was given and another recipe's run is not."""


def better(record: RunRecord, row: Row, records: Sequence[RunRecord]) -> list[str]:
    """Which recipes are no larger and shown to be better, or what may be.

    Args:
        record: The audit's.
        row: Its row.
        records: All of the store.
    """
    every = _rivals(record, row, records)
    rivals = [one for one in every if not _is_same(one, row)]
    contrasts = Contrasts([row, *rivals])
    ahead = [rival for rival in rivals if contrasts.shown_worse(row, rival)]
    if ahead:
        return [f"better at this size: {_named(one, row)}" for one in ahead[:_MOST]]
    lines = []
    if alike := [one for one in every if _is_same(one, row)]:
        lines.append(f"of the same size and KL divergence as {_name(alike[0], row)}")
    if rivals:
        lines.append(
            f"nothing is shown to be better at this size, of {_count(rivals)} measured on the "
            f"same tokens: {', '.join(_name(one, row) for one in rivals[: _MOST + 1])}"
        )
    lines += [f"{TO_TRY}{line}" for line in _commands(record, row, every)]
    return lines


def _rivals(record: RunRecord, row: Row, records: Sequence[RunRecord]) -> list[Row]:
    """Recipes of the same base model that are no larger, one of each, the best first."""
    if record.model_fingerprint is None or row.evaluated is None or not row.checkpoint_bytes:
        return []
    alike = [
        one
        for one in records
        if one.model_fingerprint == record.model_fingerprint and one.status is Status.ok
    ]
    own, found = (record.sweep, record.run), {}
    for rival in rows_of(alike):
        if (rival.sweep, rival.run) == own or rival.is_baseline or rival.is_floor:
            continue
        size = rival.checkpoint_bytes
        if size is None or size > row.checkpoint_bytes or rival.evaluated is None:
            continue
        contrast = Contrasts([row, rival])
        if contrast.divergence(row, rival) or contrast.perplexity(row, rival):
            found[rival.recipe, rival.checkpoint_key] = rival
    return sorted(found.values(), key=_loss)


def _is_same(one: Row, row: Row) -> bool:
    """Whether both are of the same files, as far as their numbers tell."""
    if one.kl_divergence is None:
        return False
    return (one.kl_divergence, one.checkpoint_bytes) == (row.kl_divergence, row.checkpoint_bytes)


def _loss(row: Row) -> float:
    loss = row.kl_divergence if row.kl_divergence is not None else row.perplexity
    return float("inf") if loss is None else loss


def _count(rivals: list[Row]) -> str:
    return "1 recipe" if len(rivals) == 1 else f"{len(rivals)} recipes"


def _name(one: Row, row: Row) -> str:
    return one.recipe if one.sweep == row.sweep else f"{one.recipe} ({one.sweep}/{one.run})"


def _named(one: Row, row: Row) -> str:
    figures = [f"{(one.checkpoint_bytes or 0) / 1e6:,.1f} MB"]
    for what, own, other in (
        ("KL divergence", one.kl_divergence, row.kl_divergence),
        ("perplexity", one.perplexity, row.perplexity),
    ):
        if own is not None and other is not None:
            figures.append(f"{what} {own:.4g} against {other:.4g}")
    return f"{_name(one, row)}: {', '.join(figures)}"


def _commands(record: RunRecord, row: Row, rivals: list[Row]) -> Iterator[str]:
    """What makes recipes that fit into the same bytes, by the model's dimensions."""
    try:
        model = from_json(Model, record.config["model"])
        shape = Shape(model.architecture)
    except (KeyError, ValueError, UsageError):
        return
    if record.engine not in engine_names() or not row.checkpoint_bytes:
        return
    kept = [
        shlex.quote(as_typed(one))
        for one in record.overrides
        if one.lstrip("+~").partition("=")[0].split(".")[0] not in _OTHERWISE
    ]
    inputs = linear_inputs(model.architecture).values()
    sizes: list[tuple[float, list[str]]] = []
    for label in _TO_TRY:
        fmt = find_format(label)
        made = made_with(fmt)
        group = _group(label)
        fits = not group or all(width % group == 0 for width in inputs)
        if made is None or not fits or not _is_read(record.engine, made[0].partition("=")[2]):
            continue
        if (size := fmt.stored_bytes(shape)) <= row.checkpoint_bytes:
            sizes.append((size, made))
    known = {rival.recipe for rival in rivals}
    largest = {made[0]: made for _, made in sorted(sizes, key=lambda one: one[0])}
    engine = [f"engine={record.engine}"]
    for made in [*largest.values()][:_MOST]:
        if not any(made[0].partition("=")[2] in recipe for recipe in known):
            words = [*model_words(model), *made, *engine, *kept, f"sweep={record.sweep}"]
            yield f"runner {' '.join(words)}"


def _is_read(engine: str, method: str) -> bool:
    """Whether an engine reads what a method writes, and takes the unquantized model alike."""
    written = capabilities_of(find_method(method).config(name=method)).checkpoint_format
    own, best = find_engine(engine), find_engine(reader_of(written).name)
    facts = CheckpointFacts(written, None, None, None, "cpu")
    return best.dense_format == own.dense_format and own.refusal(facts) is None


def _group(label: str) -> int | None:
    _, _, ending = label.partition("-g")
    return int(ending) if ending.isdecimal() else None
