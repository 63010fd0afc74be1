"""Files as users have them: marks, line ends, names, and what is said of a line that is wrong."""

import codecs
import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from runner.config.schema.tasks import Items, ItemsMaker
from runner.config.schema.text import Text, TextErrors, TextKind, TextReader
from runner.data.task_items.make import make_items
from runner.data.texts.documents import Document
from runner.data.texts.readers import read_documents, read_placed
from runner.errors import StageError, UsageError

pytestmark = pytest.mark.unit


def read(path: Path, **fields: Any) -> list[Document]:
    return read_documents(Text("mine", TextKind.file, path=str(path), **fields), path)


def file(place: Path, name: str, content: bytes) -> Path:
    path = place / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


ROWS = [{"text": "one\u2028line", "n": 1}, {"text": "zwei äöü", "n": 2}]
DOCUMENTS = [row["text"] for row in ROWS]
LINES = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
TABLE = 'text,n\n"one\u2028line",1\n"zwei äöü",2\n'.encode()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", LINES),
        ("A.JSONL", LINES),
        ("a.ndjson", LINES),
        ("a.jsonl.gz", LINES),
        ("a.json", LINES),
        ("a.json", json.dumps(ROWS).encode()),
        ("a.json", json.dumps(ROWS, indent=2).encode()),
        ("a.json.gz", codecs.BOM_UTF8 + json.dumps(ROWS).encode()),
        ("a.jsonl", codecs.BOM_UTF8 + LINES.replace(b"\n", b"\r\n")),
        ("a.jsonl", codecs.BOM_UTF8 + LINES.replace(b"\n", b"\n\n" + codecs.BOM_UTF8)),
        ("a.csv", TABLE),
        ("a.csv", codecs.BOM_UTF8 + TABLE.replace(b"\n", b"\r\n")),
        ("a.tsv", TABLE.replace(b",", b"\t")),
    ],
)
def test_the_name_tells_the_reader_and_marks_and_line_ends_are_no_text(
    name: str, content: bytes, tmp_path: Path
) -> None:
    assert read(file(tmp_path, name, content)) == DOCUMENTS


def test_parquet_by_its_name(tmp_path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": DOCUMENTS}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == DOCUMENTS


@pytest.mark.parametrize(
    "name",
    ["a.txt", "a.jsonl", "a.json", "a.csv", "a.parquet", "a.py", "talk.jsonl", "talk.parquet"],
)
def test_lines_end_with_a_line_feed_whatever_brings_them(name: str, tmp_path: Path) -> None:
    """As bytes between lines, as escapes in a value, in quoted cells, in what was said."""
    said = "one\r\ntwo\rthree\n\r\nfour"
    rows: list[dict[str, Any]] = [{"text": said}]
    fields: dict[str, Any] = {}
    if name.startswith("talk"):
        rows, fields = [{"text": [{"role": "user", "content": said}]}], {"conversation": True}
    if name.endswith("parquet"):
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / name)
    else:
        plain = said.encode()
        written = {
            ".jsonl": json.dumps(rows[0]).encode(),
            ".json": json.dumps(rows).encode(),
            ".csv": b'text\r\n"' + plain + b'"\r\n',
        }
        (tmp_path / name).write_bytes(written.get(Path(name).suffix, plain))
    if name.endswith(".py"):
        fields["reader"] = TextReader.python_source
    (found,) = read(tmp_path / name, **fields)
    text = found if isinstance(found, str) else found[0]["content"]
    assert text == "one\ntwo\nthree\n\nfour"


@pytest.mark.parametrize("name", ["a.txt", "a.md", "notes", "a.log", "a.txt.gz"])
def test_everything_else_is_plain_text(name: str, tmp_path: Path) -> None:
    content = codecs.BOM_UTF8 + b"first line\r\nsecond\r\n"
    assert read(file(tmp_path, name, content)) == ["first line\nsecond"]


def test_a_reader_that_is_told_wins_over_the_name(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", b'{"text": "x"}')
    assert read(path, reader=TextReader.plain) == ['{"text": "x"}']


def test_places_name_file_and_line(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", b'{"text": "x"}\n\n{"text": "y"}\n')
    text = Text("mine", TextKind.file, path=str(path))
    assert [place for _, place in read_placed(text, tmp_path)] == [
        "line 1 of a.jsonl",
        "line 3 of a.jsonl",
    ]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.jsonl",
            b'{"text": "x"}\n{"txt": "y"}\n',
            r"line 2 of a\.jsonl has no field text .*txt",
        ),
        ("a.jsonl", b'{"text": "x"}\n\n["y"]\n', r"line 3 of a\.jsonl is a list, not an object"),
        ("a.jsonl", b'{"text": "x"}\nnull\n', r"line 2 of a\.jsonl is null, not an object"),
        ("a.jsonl", b'{"text": "x"}\n{"text": null}\n', r"line 2 of a\.jsonl is not text but nu"),
        ("a.jsonl", b'{"text": "x"}\n{"text": "y"\n', r"line 2 of .*a\.jsonl is not JSON"),
        (
            "a.jsonl",
            b'{"text": "x"}\n{"text": "\\ud800"}\n',
            r"line 2 of a\.jsonl has a lone surro",
        ),
        ("a.jsonl", b'{"text": "x"}\n{"text": "\xe9"}\n', r"a\.jsonl is not UTF-8 \(line 2 has a "),
        ("a.json", b'[{"text": "x"}, {"t": "y"}]', r"record 2 of a\.json has no field text"),
        ("a.json", b'{\n "data": []\n}', r"line 1 of .*a\.json is not JSON"),
        ("a.csv", b"t,n\nx,1\n", r"line 2 of a\.csv has no field text \(it has: t, n\)"),
        ("a.txt", b"one\ntwo \xff\n", r"a\.txt is not UTF-8 \(line 2 has a byte 0xff"),
        ("a.txt", b"one\n\0two\n", r"a\.txt has a NUL byte in line 2"),
        ("a.txt", "text".encode("utf-16"), r"a\.txt is UTF-16.*iconv -f UTF-16"),
        ("a.jsonl", b"\xff\xfe\x00\x00{", r"a\.jsonl is UTF-32"),
        ("a.jsonl.gz", "text".encode("utf-16"), r"a\.jsonl\.gz is UTF-16"),
    ],
)
def test_what_is_wrong_is_told_with_file_and_line(
    name: str, content: bytes, said: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f"^text mine: .*{said}"):
        read(file(tmp_path, name, content))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b'{"text": "x\\ud800y"}\n'),
        ("a.jsonl", b'{"text": "x\xe9y"}\n'),
        ("a.json", b'[{"text": "x\xe9y"}]'),
        ("a.csv", b"text\nx\xe9y\n"),
        ("a.txt", b"x\xe9y\n"),
        ("a.txt", b"x\0y\n"),
    ],
)
def test_what_is_no_text_is_replaced_when_asked(name: str, content: bytes, tmp_path: Path) -> None:
    path = file(tmp_path, name, content)
    assert read(path, errors=TextErrors.replace) == ["x\ufffdy"]


def test_surrogate_pairs_and_conversations_are_whole(tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", b'{"text": "\\ud83d\\ude00"}\n')
    assert read(path) == ["\U0001f600"]
    turn = {"role": "user", "content": "\ud800"}
    path = file(tmp_path, "b.jsonl", json.dumps({"text": [turn]}).encode())
    with pytest.raises(UsageError, match=r"line 1 of b\.jsonl has a lone surrogate"):
        read(path, conversation=True)


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.json", "a.csv"])
@pytest.mark.parametrize("content", [b"", b"\n \n", codecs.BOM_UTF8])
def test_an_empty_file_is_told(name: str, content: bytes, tmp_path: Path) -> None:
    with pytest.raises((StageError, UsageError), match=rf"^text .*{name} is empty"):
        read(file(tmp_path, name, content))


def test_a_folder_of_one_kind_is_read_and_of_several_is_asked_about(tmp_path: Path) -> None:
    file(tmp_path, "b.jsonl", b'{"text": "second"}')
    file(tmp_path, "a.jsonl.gz", b'{"text": "first"}')
    file(tmp_path, "picture.png", b"\x89PNG\xff")
    assert read(tmp_path) == ["first", "second"]
    file(tmp_path, "c.txt", b"third")
    with pytest.raises(UsageError, match=r"files of several kinds; choose with .* jsonl or plain"):
        read(tmp_path)
    assert read(tmp_path, reader=TextReader.plain) == ["third"]


def test_a_folder_without_a_file_of_the_kind_is_told(tmp_path: Path) -> None:
    file(tmp_path, "picture.png", b"\x89PNG\xff")
    with pytest.raises(UsageError, match=r"text mine: .* has no \.jsonl or .* file"):
        read(tmp_path, reader=TextReader.jsonl)


def test_a_text_of_a_package_needs_all_that_finds_it(tmp_path: Path) -> None:
    text = Text("bible", TextKind.package, package="p", version="1", member="m")
    with pytest.raises(UsageError, match="text bible needs package, version, member and sha256"):
        read_documents(text, tmp_path)


def test_parquet_without_its_package_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file(tmp_path, "a.parquet", b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(StageError, match="text mine: reading parquet needs the package pyarrow"):
        read(path)


@pytest.mark.parametrize("value", ["hello", [{"role": "user"}], [{"role": 1, "content": "a"}]])
def test_a_conversation_is_a_list_of_messages(value: Any, tmp_path: Path) -> None:
    path = file(tmp_path, "a.jsonl", json.dumps({"text": value}).encode())
    with pytest.raises(UsageError, match=r"text in line 1 of a\.jsonl is not a list of messages"):
        read(path, conversation=True)


def test_items_of_tasks_are_read_alike(tmp_path: Path) -> None:
    item = {"text": "a\u2028b", "target": "c"}
    lines = "\r\n".join([json.dumps(item, ensure_ascii=False)] * 2)
    path = file(tmp_path, "items.jsonl", codecs.BOM_UTF8 + lines.encode())
    made = make_items(Items(maker=ItemsMaker.jsonl, path=str(path), examples=0), tmp_path)
    assert [one["text"] for one in made.scored] == ["a\u2028b"] * 2
    path = file(tmp_path, "bad.jsonl", b'\n{"text": "\\udfff", "target": "c"}\n')
    with pytest.raises(UsageError, match=r"bad\.jsonl, line 2, has a lone surrogate"):
        make_items(Items(maker=ItemsMaker.jsonl, path=str(path), examples=0), tmp_path)
