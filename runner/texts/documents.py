"""Documents of a text as they are stored: a string each, or the messages of a conversation."""

import json
from pathlib import Path
from typing import TypedDict

DOCUMENTS_FILE = "documents.jsonl"


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


Document = str | list[Message]


def plain(document: Document) -> str:
    """A document as running text; of a conversation what was said, without who said it."""
    if isinstance(document, str):
        return document
    return "\n\n".join(message["content"] for message in document)


def write_documents(directory: Path, documents: list[Document]) -> None:
    """Store documents as one JSON value a line."""
    with (directory / DOCUMENTS_FILE).open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(document) + "\n" for document in documents)


def load_documents(directory: Path) -> list[Document]:
    """Documents that ``write_documents`` stored in a directory."""
    with (directory / DOCUMENTS_FILE).open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]
