"""Documents out of files of records: JSON lines and parquet."""

import gzip
import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from runner.config.text import Text, TextReader
from runner.errors import StageError, UsageError
from runner.texts.documents import Document, Message


def read_records(path: Path, text: Text) -> Iterator[Document]:
    """Documents of a file of records, in its order.

    Raises:
        UsageError: A record has no such field, or it does not hold what it should.
        ValueError, OSError: The file is not what the reader reads.
    """
    if text.field is None:
        raise UsageError(f"text {text.name}: tell the field (key or column) that holds a document")
    rows = _parquet(path, text) if text.reader is TextReader.parquet else _json_lines(path)
    if text.group_by is None:
        yield from (_document(row, text, path) for row in rows)
        return
    for _, group in itertools.groupby(rows, key=lambda row: _value(row, text.group_by, text, path)):
        yield " ".join(str(_document(row, text, path)) for row in group)


def _json_lines(path: Path) -> Iterator[Any]:
    with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as stream:
        for line in stream:
            if line.strip():
                yield json.loads(line.decode("utf-8"))


def _parquet(path: Path, text: Text) -> Iterator[Any]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise StageError(f"text {text.name}: reading parquet needs the package pyarrow") from None
    with pyarrow.parquet.ParquetFile(path) as table:
        names = table.schema_arrow.names
        wanted = [name for name in (text.field, text.group_by) if name is not None]
        if unknown := [name for name in wanted if name not in names]:
            raise UsageError(
                f"text {text.name}: {path.name} has no column {unknown[0]} (columns: "
                f"{', '.join(names)}); set field"
            )
        for batch in table.iter_batches(batch_size=1024, columns=wanted):
            yield from batch.to_pylist()


def _document(row: Any, text: Text, path: Path) -> Document:
    value = _value(row, text.field, text, path)
    if not text.conversation:
        if isinstance(value, str):
            return value
        hint = "; set conversation=true" if _is_conversation(value) else ""
        raise UsageError(f"text {text.name}: {text.field} of {path.name} holds no text{hint}")
    if not _is_conversation(value):
        raise UsageError(
            f"text {text.name}: {text.field} of {path.name} holds no list of messages with role "
            "and content"
        )
    return [Message(role=message["role"], content=message["content"]) for message in value]


def _value(row: Any, field: str | None, text: Text, path: Path) -> Any:
    if isinstance(row, dict) and field in row:
        return row[field]
    keys: Iterable[str] = row if isinstance(row, dict) else ()
    raise UsageError(
        f"text {text.name}: a line of {path.name} has no field {field} (it has: "
        f"{', '.join(keys) or 'none'})"
    )


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in value
    )
