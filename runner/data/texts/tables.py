"""Documents from files of records: JSON, parquet and comma-separated values."""

import csv
import io
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from runner.config.schema.text import Text, TextReader
from runner.data.texts.decoding import most_unpacked, read_lines, read_text, require_encodable
from runner.data.texts.documents import Message, Placed
from runner.errors import StageError, UsageError
from runner.util.given import MB, FileFault, open_regular

DEFAULT_FIELD = "text"
_Row = tuple[str, Any]
"""Where a record stands, such as ``line 3``, and what it is."""


def read_records(path: Path, text: Text, reader: TextReader) -> Iterator[Placed]:
    """Documents of a file of records, in its order.

    Raises:
        UsageError: A record has no such field, or it does not hold what it should.
        ValueError, OSError, csv.Error: The file is not what the reader reads.
    """
    rows = _READERS[reader](path, text)
    if text.group_by is None:
        yield from (_placed(row, text, path) for row in rows)
        return
    for _, group in itertools.groupby(rows, key=lambda row: _value(row, text.group_by, path)):
        members = [_placed(row, text, path) for row in group]
        yield Placed(" ".join(str(member.document) for member in members), members[0].place)


def is_of_records(reader: TextReader) -> bool:
    """Whether a reader reads records, of which ``field`` holds the document."""
    return reader in _READERS


def _json_lines(path: Path, text: Text) -> Iterator[_Row]:
    for number, line in read_lines(path, text.errors):
        try:
            yield f"line {number}", json.loads(line)
        except (ValueError, RecursionError) as error:
            hint = "; a JSON list is read by reader json" if line == "[" else ""
            raise UsageError(f"line {number} of {path} is not JSON ({error}){hint}") from None


def _json(path: Path, text: Text) -> Iterator[_Row]:
    """A list of records, or records line by line, as both are called ``.json``."""
    _, first = next(read_lines(path, text.errors), (1, ""))
    if not first.startswith("["):
        yield from _json_lines(path, text)
        return
    try:
        content = json.loads(read_text(path, text.errors))
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON ({error})") from None
    yield from ((f"record {number}", row) for number, row in enumerate(content, start=1))


def _csv(path: Path, text: Text) -> Iterator[_Row]:
    delimiter = "\t" if ".tsv" in path.suffixes else ","
    content = read_text(path, text.errors)
    csv.field_size_limit(sys.maxsize)
    # Lines end at \n alone; quoted cells may hold further ones.
    rows = csv.DictReader(io.StringIO(content.lstrip()), delimiter=delimiter)
    for row in rows:
        yield f"line {rows.line_num}", {key: cell for key, cell in row.items() if cell is not None}


def _parquet(path: Path, text: Text) -> Iterator[_Row]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise StageError(f"text {text.name}: reading parquet needs the package pyarrow") from None
    with open_regular(path) as file, pyarrow.parquet.ParquetFile(file) as table:
        names = table.schema_arrow.names
        wanted = [text.field or DEFAULT_FIELD]
        wanted += [] if text.group_by is None else [text.group_by]
        if unknown := [name for name in wanted if name not in names]:
            raise UsageError(
                f"{path.name} has no column {unknown[0]} (columns: {', '.join(names)}); set field"
            )
        number, left = 0, most_unpacked(path.stat().st_size)
        rows = _rows_at_once(table, left)
        for batch in table.iter_batches(batch_size=rows, columns=wanted):
            for row in batch.to_pylist():
                left -= sum(len(value) for value in row.values() if isinstance(value, str))
                if left < 0:
                    raise FileFault(path, "unpacks to more than a hundred times its size")
                number += 1
                yield f"row {number}", row


def _rows_at_once(table: Any, most: int) -> int:
    """Rows of a batch: fewer where a value may be large, as one that stands for many may be."""
    groups = [table.metadata.row_group(number) for number in range(table.num_row_groups)]
    largest = max((group.total_byte_size for group in groups), default=0)
    if largest > most:
        raise ValueError(f"a row group would unpack to {largest} bytes")
    return max(32, min(1024, _BATCH_BYTES // max(largest, 1)))


_BATCH_BYTES = 256 * MB
"""Of rows that are all as large as a row can be."""
_READERS = {
    TextReader.jsonl: _json_lines,
    TextReader.json: _json,
    TextReader.csv: _csv,
    TextReader.parquet: _parquet,
}


def _placed(row: _Row, text: Text, path: Path) -> Placed:
    field = text.field or DEFAULT_FIELD
    value = _value(row, field, path)
    place = f"{row[0]} of {path.name}"
    if not text.conversation:
        if isinstance(value, str):
            return Placed(require_encodable(value, place, text.errors), place)
        hint = "; set conversation=true" if value and _is_conversation(value) else ""
        raise UsageError(f"{field} in {place} is not text but {_kind(value)}{hint}")
    if not _is_conversation(value):
        raise UsageError(
            f"{field} in {place} is not a list of messages, each with role and content (texts)"
        )
    messages = [
        Message(
            role=require_encodable(message["role"], place, text.errors),
            content=require_encodable(message["content"], place, text.errors),
        )
        for message in value
    ]
    return Placed(messages, place)


def _value(row: _Row, field: str | None, path: Path) -> Any:
    number, content = row
    if isinstance(content, dict) and field in content:
        return content[field]
    if not isinstance(content, dict):
        raise UsageError(f"{number} of {path.name} is {_kind(content)}, not an object with fields")
    keys: Iterable[str] = (str(key) for key in content)
    raise UsageError(
        f"{number} of {path.name} has no field {field} (it has: {', '.join(keys) or 'none'}); set "
        "field, or fix the line"
    )


def _kind(value: Any) -> str:
    """What a JSON value is, in JSON's words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = ((str, "a text"), (int | float, "a number"), (list, "a list"), (dict, "an object"))
    return next((name for kind, name in kinds if isinstance(value, kind)), type(value).__name__)


def _is_conversation(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in value
    )
