"""Documents out of files, and prose out of wiki markup."""

import bz2
import json
from pathlib import Path

import pytest

from runner.config.schema.text import Text, TextKind, TextReader
from runner.data.texts.readers import read_documents
from runner.data.texts.wikipedia import prose
from runner.errors import StageError, UsageError

pytestmark = pytest.mark.unit

SENTENCE = "The river rises in the northern hills and reaches the sea after forty miles of plain."


def local(path: Path, reader: TextReader = TextReader.plain, **fields: str) -> Text:
    return Text(name="mine", kind=TextKind.file, reader=reader, path=str(path), **fields)


def lines(path: Path, *values: object) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


def test_folder_of_plain_files_is_read_in_order_without_other_files(tmp_path: Path) -> None:
    (tmp_path / "b.txt").write_text("second\n")
    (tmp_path / "a.txt").write_text("first\n")
    (tmp_path / "empty.txt").write_text(" \n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\xff")
    assert read_documents(local(tmp_path), tmp_path) == ["first", "second"]


def test_jsonl_takes_one_field(tmp_path: Path) -> None:
    path = lines(tmp_path / "t.jsonl", {"0": "one", "1": "no"}, {"0": "two", "1": "no"})
    text = local(path, TextReader.jsonl, field="0")
    assert read_documents(text, tmp_path) == ["one", "two"]


def test_jsonl_joins_neighbours_of_one_group(tmp_path: Path) -> None:
    rows = [{"b": "Genesis", "t": "In"}, {"b": "Genesis", "t": "the"}, {"b": "Exodus", "t": "Now"}]
    path = lines(tmp_path / "t.jsonl", *rows)
    text = local(path, TextReader.jsonl, field="t", group_by="b")
    assert read_documents(text, tmp_path) == ["In the", "Now"]


def test_missing_file_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.txt"):
        read_documents(local(tmp_path / "absent.txt"), tmp_path)


def test_empty_text_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("\n")
    with pytest.raises(StageError, match="no documents"):
        read_documents(local(tmp_path / "a.txt"), tmp_path)


@pytest.mark.parametrize(
    ("reader", "content", "fields"),
    [
        (TextReader.plain, b"\xff\xfe\x00", {}),
        (TextReader.jsonl, b"not json\n", {"field": "t"}),
        (TextReader.jsonl, b'{"t": 3}\n', {"field": "t"}),
        (TextReader.jsonl, b'["t"]\n', {"field": "t"}),
        (TextReader.jsonl, b'{"u": "x"}\n', {"field": "t"}),
        (TextReader.jsonl, b'{"t": "x"}\n', {}),
        (TextReader.wikipedia_dump, b"<mediawiki><page>", {}),
    ],
)
def test_file_of_another_kind_is_a_message_not_a_traceback(
    tmp_path: Path, reader: TextReader, content: bytes, fields: dict[str, str]
) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(UsageError, match="text mine"):
        read_documents(local(tmp_path / "file", reader, **fields), tmp_path)


def test_docstrings_of_module_class_and_function(tmp_path: Path) -> None:
    source = '"""Module."""\nclass A:\n    """Class."""\n    def f(self):\n        """Method."""\n'
    (tmp_path / "m.py").write_text(source)
    (tmp_path / "broken.py").write_text("def (")
    assert read_documents(local(tmp_path, TextReader.python_docstrings), tmp_path) == [
        "Module.\n\nClass.\n\nMethod."
    ]


def test_dump_gives_long_articles_only(tmp_path: Path) -> None:
    long = "\n\n".join([SENTENCE] * 8)
    pages = [
        ("0", "", long),
        ("0", "<redirect title='River'/>", long),
        ("0", "", SENTENCE),
        ("4", "", long),
    ]
    content = "".join(
        f"<page><title>T</title><ns>{ns}</ns>{extra}<revision><text>{text}</text></revision></page>"
        for ns, extra, text in pages
    )
    name = "http://www.mediawiki.org/xml/export-0.10/"
    path = tmp_path / "dump.xml.bz2"
    path.write_bytes(bz2.compress(f'<mediawiki xmlns="{name}">{content}</mediawiki>'.encode()))
    assert read_documents(local(path, TextReader.wikipedia_dump), tmp_path) == [long]


@pytest.mark.parametrize(
    "markup",
    [
        "{{Infobox|name={{lang|la|Fluvius}}|map=[[File:a.png|thumb]]}}",
        "{| class=wikitable\n| a || {{b}}\n{| \n| inner\n|}\n|}\n",
        "[[File:River.jpg|thumb|upright|The [[River|river]] by [[A. Painter]].]]\n",
        "[[Category:Rivers]]\n",
        "<!-- a note -->",
        '<ref name="x/y" />',
    ],
)
def test_markup_before_a_sentence_goes_and_the_sentence_stays(markup: str) -> None:
    assert prose(markup + SENTENCE) == SENTENCE


@pytest.mark.parametrize(
    ("markup", "shown"),
    [
        ("[[River|river]]", "river"),
        ("[[river]]", "river"),
        ("'''''river'''''", "river"),
        ("[http://example.org the river]", "the river"),
        ("river<ref>See [[Atlas]], ''p. 7''. {{cite|url=http://a.b/|t=[x]}}</ref>", "river"),
        ("river ({{IPA|x}}; {{audio|y}})", "river"),
        ("{{convert|40|km|mi}}", "40 km"),
        ("{{lang|la|fluvius}}", "fluvius"),
        ("R&nbsp;&amp;&nbsp;B", "R & B"),
        ("a &lt; b", "a < b"),
    ],
)
def test_markup_inside_a_sentence_shows_what_a_reader_sees(markup: str, shown: str) -> None:
    assert prose(f"Near {markup}, {SENTENCE}") == f"Near {shown}, {SENTENCE}"


@pytest.mark.parametrize(
    "line", [f"* {SENTENCE}", f"# {SENTENCE}", f"== {SENTENCE} ==", f"{{{{open {SENTENCE}",
             f"With <math>x^2</math>, {SENTENCE}", "Too short."]
)  # fmt: skip
def test_lists_headings_formulas_and_broken_markup_are_no_prose(line: str) -> None:
    assert prose(f"{line}\n{SENTENCE}") == SENTENCE
