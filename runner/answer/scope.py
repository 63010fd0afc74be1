"""What rows must share for their quality to be compared: model, text, protocol and arithmetic."""

from runner.answer.rows import Row


def scopes(rows: list[Row]) -> dict[str, list[Row]]:
    """Rows whose perplexities compare, by what they are about.

    A scope is called after its model; texts, protocols and arithmetics are named where a model was
    measured on several. The floor's own rows belong to none. Rows without quality belong to every
    scope of their model: size and speed compare whatever the text.
    """
    found: dict[str, list[Row]] = {}
    for model in dict.fromkeys(row.model for row in rows):
        of_model = [row for row in rows if row.model == model and not row.is_floor]
        measured = dict.fromkeys(_measured(row) for row in of_model if row.perplexity is not None)
        several = [len(set(names)) > 1 for names in zip(*measured, strict=True)]
        for scope in measured or [("", "", "")]:
            named = [name for name, apart in zip(scope, several, strict=False) if apart]
            found[" on ".join([model, ", ".join(named)]) if named else model] = [
                row for row in of_model if row.perplexity is None or _measured(row) == scope
            ]
    return found


def _measured(row: Row) -> tuple[str, str, str]:
    protocol = (row.perplexity_protocol or "").removeprefix("perplexity/")
    return row.text or "", protocol, row.arithmetic or "an arithmetic that is not told"
