"""Tables of what ``benchmarks.additivity`` measured."""

from typing import Any


def report(found: dict[str, Any]) -> str:
    import json

    return json.dumps(found)[:2000]
