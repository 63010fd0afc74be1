"""Stage ``windows``: cut a recipe's calibration windows.

Apart from ``quantize`` so that every method and backend, whatever tokenizer library its
environment has, looks at the same tokens, and so that a text that is too short is told before
a model is loaded.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema.calibration import Calibration
from runner.data.texts.calibration import Part, cut_windows, digest
from runner.data.texts.degenerate import LEFT_OUT
from runner.data.texts.windows import bos_determinant
from runner.pipeline.stages.base import TRANSFORMERS, Cost, Stage, StageContext
from runner.util.serialise import from_json, to_json

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.inputs import Inputs
    from runner.pipeline.stage_job import StageResult

WINDOWS_FILE = "windows.json"
INDECISIVE = ("min_tokens_per_expert", "allow_unseen_experts")
"""Fields of a calibration that change neither windows nor weights."""
_MUCH_LEFT_OUT = 0.1
"""Share of the windows drawn from a text above which it is a warning that they were left out."""


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


class WindowsStage(Stage[WindowsRequest, WindowsResult]):
    """Cuts calibration windows."""

    name = "windows"
    schema_version = 2
    request = WindowsRequest
    result = WindowsResult
    runs_beside = True

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Text is tokenized."""
        return Cost(seconds=5.0)

    def stand_in(self) -> WindowsResult:
        """Nothing is known of windows that are yet to be cut."""
        return WindowsResult(0, 0, "", [])

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


STAGE = WindowsStage()


def load_windows(directory: Path) -> tuple[list[list[int]], list[Part]]:
    """Windows that the stage stored in a directory, and what each text gave."""
    content = json.loads((directory / WINDOWS_FILE).read_text("utf-8"))
    return content["windows"], [Part(**part) for part in content["parts"]]


def calibration_windows(
    inputs: "Inputs", model: "Checkpoint", calibration: Calibration | None
) -> "StageResult[WindowsResult] | None":
    """The windows a recipe looks at; ``None`` when it looks at none."""
    if calibration is None or not calibration.parts:
        return None
    texts = [inputs.text(part.text) for part in calibration.parts]
    environment = inputs.environment(TRANSFORMERS)
    request = WindowsRequest(
        calibration=to_json(calibration),
        text_names=[part.text.name for part in calibration.parts],
        text_directories=[text.directory for text in texts],
        tokenizer_directory=model.directory,
        trust_remote_code=inputs.config.model.trust_remote_code,
    )
    determinants = {
        "tokenizer": model.identity,
        "texts": [text.address.key for text in texts],
        "calibration": {k: v for k, v in request.calibration.items() if k not in INDECISIVE},
        **bos_determinant(model.directory),
        "versions": environment.versions(("tokenizers", "transformers")),
    }
    title = f"windows of {calibration.texts_label}"
    cut = inputs.obtain(STAGE, request, environment, title=title, determinants=determinants)
    for part in cut.known.parts if cut.known is not None else ():
        _tell_left_out(inputs, part)
    return cut


def _tell_left_out(inputs: "Inputs", part: Part) -> None:
    """Say how many windows of a text were passed over; a text of much junk is a warning."""
    drawn = part.windows + part.left_out
    message = f"{part.left_out} of {drawn} windows of text {part.text} skipped: {LEFT_OUT}"
    if part.left_out > max(1, _MUCH_LEFT_OUT * drawn):  # one may be chance
        inputs.warn(f"{message}; check that this is the intended text")
    elif part.left_out:
        inputs.mention(message)
