"""Measurements kept in a file, so that a run that was stopped goes on."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class Kept:
    """Window means of KL divergence by what was measured, in a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.values: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}

    def value(self, kind: str, key: str, compute: Callable[[], Any]) -> Any:
        """What is kept under the key, or is computed now; times are added up by kind."""
        if key not in self.values:
            started = time.process_time()
            self.values[key] = compute()
            seconds = self.values.setdefault("seconds", {}).setdefault(kind, [])
            seconds.append(time.process_time() - started)
            self._path.write_text(json.dumps(self.values), "utf-8")
        return self.values[key]
