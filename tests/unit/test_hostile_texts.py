"""Files that call themselves texts and are not are refused at once; none is read without end."""

import bz2
import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from runner.config.schema.tasks import Items, ItemsMaker
from runner.config.schema.text import Text, TextKind, TextReader
from runner.data.task_items.make import make_items
from runner.data.texts import decoding, files
from runner.data.texts.files import states
from runner.data.texts.precheck import precheck
from runner.data.texts.readers import read_documents
from runner.data.texts.source import source_of
from runner.data.texts.wikipedia import prose
from runner.errors import RunnerError, UsageError

pytestmark = pytest.mark.unit


def text(path: Path | str, reader: TextReader = TextReader.auto) -> Text:
    return Text(name="mine", kind=TextKind.file, path=str(path), reader=reader)


def pipe(path: Path) -> None:
    os.mkfifo(path)


def to(target: str) -> Callable[[Path], None]:
    return lambda path: path.symlink_to(target)


def of(content: bytes) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(content) and None


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 40)


def repeated(path: Path) -> None:
    """A value of a megabyte, once in the file and in each of a hundred rows."""
    rows = pyarrow.array([0] * 100)
    column = pyarrow.DictionaryArray.from_arrays(rows, pyarrow.array(["x" * 1_000_000]))
    pyarrow.parquet.write_table(pyarrow.table({"text": column}), path, compression="zstd")


ZEROS = bytes(100_000_000)
WAYS: dict[str, tuple[str, Callable[[Path], None]]] = {
    "a pipe": ("a.txt", pipe),
    "a device": ("a.txt", to("/dev/zero")),
    "a device as a table": ("a.parquet", to("/dev/zero")),
    "a device as gzip": ("a.jsonl.gz", to("/dev/zero")),
    "a device as a dump": ("a.xml.bz2", to("/dev/zero")),
    "a link to itself": ("a.txt", to("a.txt")),
    "a link to nothing": ("a.txt", to("nothing")),
    "a file of the kernel": ("a.txt", to("/proc/kmsg")),
    "empty": ("a.jsonl", of(b"")),
    "empty gzip": ("a.jsonl.gz", of(b"")),
    "empty table": ("a.parquet", of(b"")),
    "a terabyte as plain text": ("a.txt", sparse),
    "zeros in gzip": ("a.txt.gz", of(gzip.compress(ZEROS, 9))),
    "zeros in gzip, line by line": ("a.jsonl.gz", of(gzip.compress(ZEROS, 9))),
    "zeros in bz2": ("a.xml.bz2", of(bz2.compress(ZEROS, 9))),
    "gzip cut off": ("a.jsonl.gz", of(gzip.compress(b'{"text": "a"}' * 999)[:-20])),
    "gzip damaged": ("a.jsonl.gz", of(gzip.compress(os.urandom(999))[:20] + b"damaged" * 99)),
    "no gzip": ("a.jsonl.gz", of(b'{"text": "a"}')),
    "no table": ("a.parquet", of(b"PAR1" + bytes(99) + b"PAR1")),
    "a table's name": ("a.parquet", of(b"PAR1")),
    "a table of one value": ("a.parquet", repeated),
    "a list of 100,000 levels": ("a.json", of(b"[" * 100_000)),
    "a line of 100,000 levels": ("a.jsonl", of(b'{"text":' * 100_000)),
    "a number of many digits": ("a.jsonl", of(b'{"text": ' + b"9" * 10_000 + b"}")),
    "a list of numbers": ("a.json", of(b"[1, 2]")),
    "an object of NaN": ("a.jsonl", of(b'{"text": NaN}')),
    "XML of entities in entities": (
        "a.xml",
        of(
            b"<!DOCTYPE a [<!ENTITY e0 'eeeeeeeeee'>"
            + b"".join(f"<!ENTITY e{n} '{f'&e{n - 1};' * 10}'>".encode() for n in range(1, 12))
            + b"]><a>&e11;</a>"
        ),
    ),
    "XML of many levels": ("a.xml", of(b"<a>" * 200_000)),
}


@pytest.mark.parametrize("way", WAYS)
def test_refused_at_once_with_one_sentence_that_names_the_file(way: str, tmp_path: Path) -> None:
    name, make = WAYS[way]
    make(tmp_path / name)
    for look in (precheck, lambda t: read_documents(t, tmp_path)):
        if way.startswith("a terabyte") and look is precheck:
            continue  # too large to be looked at before the run
        with pytest.raises(RunnerError) as found:
            look(text(tmp_path / name))
        assert name in str(found.value)
        assert str(found.value).isprintable()


@pytest.mark.parametrize(
    "path", ["/dev/zero", "/dev/null", "~nobody-of-this-name/a", "a" * 5000, "a\0b"]
)
def test_paths_that_are_no_files_are_told_by_everybody_who_asks(path: str, tmp_path: Path) -> None:
    for look in (precheck, source_of, lambda t: read_documents(t, tmp_path)):
        with pytest.raises(UsageError, match="text mine"):
            look(text(path))


def test_a_folder_with_a_pipe_in_it_is_told_and_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("first")
    pipe(tmp_path / "b.txt")
    with pytest.raises(UsageError, match=r"b\.txt is a named pipe"):
        read_documents(text(tmp_path), tmp_path)
    assert [Path(name).name for name, _, _ in states(tmp_path)] == ["a.txt"]


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "back").symlink_to(tmp_path)
    (tmp_path / "inner" / "a.txt").write_text("first")
    assert read_documents(text(tmp_path), tmp_path) == ["first"]


@pytest.mark.parametrize(
    "source", [b"(" * 100_000, b"\0", b"x = " + b"-" * 100_000 + b"1", b"def f(:"]
)
def test_sources_that_do_not_parse_have_no_docstrings(source: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(source)
    (tmp_path / "b.py").write_text('"""Says what it does."""')
    found = read_documents(text(tmp_path, TextReader.python_docstrings), tmp_path)
    assert found == ["Says what it does."]


@pytest.mark.parametrize("mark", ["{{a", "[[a", "{|\n", "<ref>", "{{" * 3])
def test_wikitext_of_marks_in_marks_ends(mark: str) -> None:
    close = {"{": "}}", "[": "]]", "<": "</ref>"}[mark[0]]
    assert prose(mark * 3000 + close * 3000) == ""
    assert prose(mark * 30_000) == ""


@pytest.mark.parametrize("maker", [m for m in ItemsMaker if "path" in m.fields])
@pytest.mark.parametrize("content", [b"\xff\xfe\0", b"[" * 100_000, b"a\tb\nc", b'{"text": 1}'])
def test_items_out_of_what_is_no_such_file_are_told(
    maker: ItemsMaker, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "items").write_bytes(content)
    with pytest.raises(RunnerError):
        make_items(Items(maker=maker, path=str(tmp_path / "items")), tmp_path)


def test_items_out_of_a_device_are_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="/dev/zero is a device"):
        make_items(Items(maker=ItemsMaker.jsonl, path="/dev/zero"), tmp_path)


def test_what_is_larger_than_can_be_held_at_once_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_MOST_WHOLE_BYTES", 2_000_000)
    monkeypatch.setattr(decoding, "_LONGEST_LINE_BYTES", 1_000_000)
    for content, name, said in (
        (b"a" * 2_000_001, "a.txt.gz", "contains more than 2 MB in one piece"),
        (b"\n" + b"a" * 1_000_001, "a.jsonl", "has a line of more than 1 MB, line 2"),
    ):
        packed = gzip.compress(content) if name.endswith(".gz") else content
        (tmp_path / name).write_bytes(packed)
        with pytest.raises(UsageError, match=said):
            read_documents(text(tmp_path / name), tmp_path)


def test_a_table_whose_rows_would_unpack_to_more_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_ALWAYS_BYTES", 10)
    monkeypatch.setattr(decoding, "_MOST_TIMES", 1)
    table, path = pyarrow.table({"text": ["x" * 100_000]}), tmp_path / "a.parquet"
    pyarrow.parquet.write_table(table, path, compression="gzip", use_dictionary=False)
    with pytest.raises(UsageError, match=r"text mine: .*a row group would unpack to \d{6} bytes"):
        read_documents(text(path), tmp_path)


def test_a_folder_of_too_many_files_is_no_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "_MOST_FILES", 2)
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name)
    with pytest.raises(UsageError, match="contains more than 2 files: set a subdirectory or one"):
        read_documents(text(tmp_path), tmp_path)


def test_what_is_not_looked_at_before_a_run_is_left_to_its_stage(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("na\u00efve")
    assert precheck(text(tmp_path / "a.txt")) == 6
    with (tmp_path / "b.txt").open("wb") as stream:
        stream.truncate(33_000_000)
    assert precheck(text(tmp_path / "b.txt")) is None
    assert precheck(Text("t", TextKind.package, path=str(tmp_path / "absent.txt"))) is None
