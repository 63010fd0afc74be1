"""Data of the page's scripts: small inline, large compressed, details separate.

A browser unpacks the rows of a large sweep when the page opens, and a run's details when somebody
asks for them.
"""

import base64
import gzip
import json
import math
from typing import Any

from runner.reporting.page.runs import runs_content
from runner.store.records import RunRecord

_MOST_PLAIN = 500_000
"""Characters up to which the data stay text that anybody can read and search."""
_RUNS_IN_PART = 100


def packed_rows(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows as ``{"keys": [...], "rows": [[...], ...]}``: names are written once."""
    keys = list(dict.fromkeys(key for row in rows for key in row))
    return {"keys": keys, "rows": [[row.get(key) for key in keys] for row in rows]}


def packed_runs(records: list[RunRecord]) -> dict[str, Any]:
    """Runs in full: as ``runs_content`` has them, or in compressed parts where they are many.

    Then ``{"parts": [...], "at": {run: number of its part}}``.
    """
    if len(records) <= _RUNS_IN_PART:
        return runs_content(records)
    starts = range(0, len(records), _RUNS_IN_PART)
    parts = [records[start : start + _RUNS_IN_PART] for start in starts]
    return {
        "parts": [compressed(_text(runs_content(part))) for part in parts],
        "at": {record.run: number for number, part in enumerate(parts) for record in part},
    }


def encoded(data: dict[str, Any]) -> tuple[str, str]:
    """The data for a script element, and how they are encoded: ``json`` or ``gzip``."""
    text = _text(data)
    if len(text) > _MOST_PLAIN:
        return compressed(text), "gzip"
    for character in "<>&'":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text, "json"


def compressed(text: str) -> str:
    """Base64 of gzip: no character of it means anything to HTML."""
    return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode("ascii")


def finite(value: Any) -> Any:
    """A copy of a JSON value with ``None`` for what JSON has no number for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(content) for key, content in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return value


def _text(value: Any) -> str:
    try:
        return json.dumps(value, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(finite(value), separators=(",", ":"), allow_nan=False)
