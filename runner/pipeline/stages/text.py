"""Stage ``text``: read a text out of its package or file."""

import hashlib
from dataclasses import dataclass

from runner.config.schema.text import Text
from runner.data.texts.documents import DOCUMENTS_FILE, plain, write_documents, write_places
from runner.data.texts.readers import read_placed
from runner.pipeline.worker.job import StageContext


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


class TextStage:
    """Reads texts."""

    name = "text"
    schema_version = 3
    request = TextRequest
    result = TextResult

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
