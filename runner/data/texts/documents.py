"""Documents of a text: a string each, or the messages of a conversation."""

import json
from pathlib import Path
from typing import NamedTuple, TypedDict

DOCUMENTS_FILE = "documents.jsonl"
PLACES_FILE = "places.jsonl"


class Message(TypedDict):
    """One turn of a conversation."""

    role: str
    content: str


Document = str | list[Message]


class Placed(NamedTuple):
    """A document, and where it stands: ``line 3 of chat.jsonl``."""

    document: Document
    place: str


def plain(document: Document) -> str:
    """A document as running text; of a conversation what was said, without who said it."""
    if isinstance(document, str):
        return document
    return "\n\n".join(message["content"] for message in document)


def write_documents(directory: Path, documents: list[Document]) -> None:
    """Store documents as one JSON value a line."""
    _write(directory / DOCUMENTS_FILE, documents)


def write_places(directory: Path, places: list[str]) -> None:
    """Store where each document came from, beside the documents."""
    _write(directory / PLACES_FILE, places)


def load_documents(directory: Path) -> list[Document]:
    """Documents that ``write_documents`` stored in a directory."""
    with (directory / DOCUMENTS_FILE).open(encoding="utf-8") as stream:
        return [json.loads(line) for line in stream]


def load_placed(directory: Path) -> list[Placed]:
    """Documents and where they came from; by their number where nobody noted it."""
    documents = load_documents(directory)
    places = [f"document {number}" for number in range(1, len(documents) + 1)]
    if (directory / PLACES_FILE).is_file():
        with (directory / PLACES_FILE).open(encoding="utf-8") as stream:
            places = [json.loads(line) for line in stream]
    return [Placed(*pair) for pair in zip(documents, places, strict=True)]


def _write(path: Path, values: list[Document] | list[str]) -> None:
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(value) + "\n" for value in values)
