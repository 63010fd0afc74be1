"""What rows must share for their quality to be compared.

That is the model, the text, the protocol and the arithmetic, and where records tell them the very
tokens and the weights that were quantized: a name may stand for other ones by now. Where speeds
were measured on several kinds of machine, it is the machine too.
"""

from runner.reporting.rows import Row

_ALWAYS_NAMED = 3
"""Parts of what was measured that are named wherever they differ: text, protocol, arithmetic."""

Measured = tuple[str, ...]


def comparable_rows(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows whose perplexities compare, by what they are about.

    A scope is called after its model; texts, protocols and arithmetics are named where a model was
    measured on several, and windows, digests of tokens and of weights where those leave scopes
    alike. The floor's own rows belong to none. Rows without quality belong to every scope of their
    model: size and speed compare whatever the text. Of several machines each has scopes of its own,
    which rows without speeds belong to as well.
    """
    comparable: dict[str, list[Row]] = {}
    for model in dict.fromkeys(row.model for row in rows):
        of_model = [row for row in rows if row.model == model and not row.is_floor]
        machines = list(dict.fromkeys(row.machine for row in of_model if row.machine))
        for machine in machines if len(machines) > 1 else [None]:
            on_it = [row for row in of_model if machine is None or row.machine in (None, machine)]
            comparable |= _on_one_machine(model, on_it, machine)
    return comparable


def _on_one_machine(model: str, of_model: list[Row], machine: str | None) -> dict[str, list[Row]]:
    comparable: dict[str, list[Row]] = {}
    measured = list(dict.fromkeys(_measured(r) for r in of_model if r.perplexity is not None))
    parts = _telling(measured)
    for scope in measured or [()]:
        named = ", ".join([*(scope[part] for part in parts), *([machine] if machine else [])])
        comparable[f"{model} on {named}" if named else model] = [
            row for row in of_model if row.perplexity is None or _measured(row) == scope
        ]
    return comparable


def _telling(measured: list[Measured]) -> list[int]:
    """Numbers of the parts that set scopes apart."""
    parts: list[int] = []
    for part, values in enumerate(zip(*measured, strict=True)):
        distinct = len({tuple(scope[one] for one in parts) for scope in measured})
        if len(set(values)) > 1 and (part < _ALWAYS_NAMED or distinct < len(measured)):
            parts.append(part)
    return parts


def _measured(row: Row) -> Measured:
    protocol = (row.perplexity_protocol or "").removeprefix("perplexity/")
    arithmetic = row.arithmetic or "unknown arithmetic"
    if row.evaluated is None:
        return row.text or "", protocol, arithmetic, "", "", ""
    where = row.evaluated.circumstances
    return (
        row.text or "",
        protocol,
        arithmetic,
        f"{len(where.window_tokens)} windows",
        f"tokens {where.tokens[:8] or 'unknown'}",
        f"weights {(where.base or 'unknown').rpartition(':')[2][:17]}",
    )
