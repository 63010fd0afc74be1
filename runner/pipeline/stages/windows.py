"""Stage ``windows``: cut a recipe's calibration windows.

Apart from ``quantize`` so that every method and backend, whatever tokenizer library its
environment has, looks at the same tokens, and so that a text that is too short is told before
a model is loaded.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.schema.calibration import Calibration
from runner.data.texts.calibration import Part, cut_windows, digest
from runner.pipeline.worker.job import StageContext
from runner.util.serialise import from_json, to_json

WINDOWS_FILE = "windows.json"


@dataclass
class WindowsRequest:
    """Texts, a tokenizer and how to cut."""

    calibration: dict[str, Any]
    """JSON form of a ``Calibration``."""
    text_names: list[str]
    text_directories: list[Path]
    """Results of stage ``text``, in the order of the calibration's parts."""
    tokenizer_directory: Path
    trust_remote_code: bool


@dataclass
class WindowsResult:
    """The windows lie in ``windows.json`` beside the result."""

    windows: int
    tokens: int
    sha256: str
    """Digest of the exact token windows."""
    parts: list[Part]
    left_out: int = 0
    """Windows of almost no distinct tokens that were drawn and left out, of all parts."""


class WindowsStage:
    """Cuts calibration windows."""

    name = "windows"
    schema_version = 2
    request = WindowsRequest
    result = WindowsResult

    def run(self, request: WindowsRequest, context: StageContext) -> WindowsResult:
        """Tokenize, cut, store."""
        context.progress(0, 1, "cutting calibration windows")
        windows, parts = cut_windows(
            from_json(Calibration, request.calibration),
            request.text_names,
            request.text_directories,
            request.tokenizer_directory,
            request.trust_remote_code,
        )
        content = {"windows": windows, "parts": to_json(parts)}
        (context.output / WINDOWS_FILE).write_text(json.dumps(content), "utf-8")
        return WindowsResult(
            windows=len(windows),
            tokens=sum(map(len, windows)),
            sha256=digest(windows),
            parts=parts,
            left_out=sum(part.left_out for part in parts),
        )


def load_windows(directory: Path) -> tuple[list[list[int]], list[Part]]:
    """Windows that the stage stored in a directory, and what each text gave."""
    content = json.loads((directory / WINDOWS_FILE).read_text("utf-8"))
    return content["windows"], [Part(**part) for part in content["parts"]]


STAGE = WindowsStage()
