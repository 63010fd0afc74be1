"""Stage ``text``: read a text from its package or file."""

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema.text import Text, TextKind
from runner.data.texts.documents import DOCUMENTS_FILE, plain, write_documents, write_places
from runner.data.texts.readers import read_placed
from runner.pipeline.stages.base import TRANSFORMERS, Cost, Stage, StageContext
from runner.store.inventory import Retention
from runner.util.serialise import to_json

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.inputs import Inputs
    from runner.pipeline.stage_job import StageResult


@dataclass
class TextRequest:
    """Which text to read."""

    text: Text


@dataclass
class TextResult:
    """The documents lie in ``documents.jsonl``, and where they came from in ``places.jsonl``."""

    documents: int
    characters: int
    sha256: str


class TextStage(Stage[TextRequest, TextResult]):
    """Reads texts."""

    name = "text"
    schema_version = 3
    request = TextRequest
    result = TextResult
    runs_beside = True
    retention = Retention.shared_input

    def obtain_text(self, inputs: "Inputs", text: Text) -> "StageResult[TextResult]":
        """A text's documents."""
        from runner.pipeline.inputs import file_state

        versions: dict[str, Any] = {}
        if text.kind is TextKind.standard_library:
            versions = {"python": platform.python_version()}
        if text.kind is TextKind.file and text.path:
            versions = {"file": file_state(Path(text.path).expanduser())}
        return inputs.obtain(
            self, TextRequest(text), inputs.environment(TRANSFORMERS),
            title=f"text {text.name}", determinants={"text": to_json(text), **versions},
        )  # fmt: skip

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Files are read."""
        return Cost(seconds=5.0)

    def run(self, request: TextRequest, context: StageContext) -> TextResult:
        """Fetch, strip markup, store one document a line."""
        context.progress(0, 1, f"reading text {request.text.name}")
        read = read_placed(request.text, context.cache)
        documents = [document for document, _ in read]
        write_documents(context.output, documents)
        write_places(context.output, [place for _, place in read])
        context.progress(1, 1, f"reading text {request.text.name}")
        return TextResult(
            documents=len(documents),
            characters=sum(len(plain(document)) for document in documents),
            sha256=hashlib.sha256((context.output / DOCUMENTS_FILE).read_bytes()).hexdigest(),
        )


STAGE = TextStage()
