"""A slip in a file of the user's own is told by the file, the line and one sentence."""

import os
from pathlib import Path

import pytest

from runner.api import compose_config
from runner.cli.help import help_text
from runner.config.text_by_name import resolve_text
from runner.errors import UsageError
from runner.planning.devices import read_device
from runner.util.paths import conf_dir, sweeps_dir
from runner.util.yaml_files import line_of, load, read_text

pytestmark = pytest.mark.unit

_LINES = "\n".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 10)}]" for i in range(9)
)
LAUGHS = f"a: &a [{','.join('x' * 10)}]\n{_LINES}"
SLIPS: dict[str, tuple[str | bytes, str]] = {
    "tab": ("name: a\n\tkind: b\n", "line 2: a tab"),
    "bracket": ("name: a\nlist: [1, 2\n", "line 2: a [ that is not closed"),
    "brace": ("name: a\nmap: {a: b\n", "line 2: a { that is not closed"),
    "quote": ("name: 'a\nkind: b\n", "line 1: a quote that is not closed"),
    "key twice": ("name: a\nkind: b\nname: c\n", "line 3: name is already in line 1"),
    "inner key twice": ("a:\n  b: 1\n  b: 2\n", "line 3: b is already in line 2"),
    "list": ("- a\n- b\n", "line 1: a list where a mapping is expected"),
    "text": ("hello\n", "line 1: a lone value where a mapping is expected"),
    "within itself": ("name: a\nlist: &a [*a]\n", "line 2: *a refers to a value that contains it"),
    "within itself, deeper": ("a: &a\n  b:\n    c: *a\n", "line 3: *a refers to a value"),
    "no anchor": ("a: *nope\n", "line 1: no &nope before this *nope"),
    "laughs": (LAUGHS, "line 5: more than 20000 values"),
    "UTF-16": ("name: a\n".encode("utf-16"), "this is UTF-16"),
    "Latin-1": ("x: y\nname: é\n".encode("latin-1"), "line 2: a byte 0xe9"),
    "NUL": (b"name: a\x00b\n", "line 1: a character NUL"),
    "control": (b"a: b\nname: a\x01b\n", "line 2: a character '\\x01'"),
    "DEL": ("é: é\nö: ö\nname: a\x7fb\n", "line 3: a character '\\x7f' that YAML forbids"),
    "documents": ("name: a\n---\nname: b\n", "line 2: a second document"),
    "tag": ("name: !!python/object/apply:os.system ['true']\n", "line 1: a tag !!python/"),
    "own tag": ("name: !nope x\n", "line 1: a tag !nope"),
    "key of a list": ("[1, 2]: a\n", "line 1: a list or a mapping where a name is expected"),
    "two colons": ("a: b\nname: a: b\n", "line 2: a second ': '"),
    "indented": ("name: a\n  kind: b\n", "line 2: a second ': '"),
    "deep": (
        "name: " + "[" * 3000 + "]" * 3000 + "\n",
        "line 1: lists and mappings are nested more than",
    ),
    "huge": ("name: " + "x" * 300_000 + "\n", "a configuration may have 256 kB"),
    "block": ("a: b\nname: |x\n", "line 2: did not find expected comment or line break"),
    "special": ("name: @x\n", "line 1: a text that begins with this character needs quotes"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_is_told_by_file_and_line(slip: str, tmp_path: Path) -> None:
    content, said = SLIPS[slip]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UsageError) as caught:
        read_text(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_told_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "folder.yaml").mkdir()
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name in ("pipe", "folder", "zero", "loop", "nothing"):
        with pytest.raises(UsageError, match=name):
            read_text(tmp_path / f"{name}.yaml")


def test_files_of_ours_and_marks_of_byte_order_are_fine(tmp_path: Path) -> None:
    for path in [*conf_dir().rglob("*.yaml"), *sweeps_dir().rglob("*.yaml")]:
        read_text(path)
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"\xef\xbb\xbf# @package _global_\nname: a\n")
    assert read_text(path).startswith("# @package"), "Hydra looks for it at the beginning"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a folder for each group."""
    monkeypatch.chdir(tmp_path)
    for name in ("conf/model", "conf/bits", "conf/hardware", "conf/text", "sweeps"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"model/mine": "name: a\n\tkind: b"}, "line 2: a tab"),
        ({"model/mine": "name: a\nnope: 1"}, "line 2: there is no model.nope"),
        ({"model/mine": "kind: hub\nname: [a]"}, "line 2: model.name must be a text"),
        ({"model/mine": "defaults: tiny"}, "line 1: defaults must be a list"),
        ({"model/mine": "x: 1\ndefaults: [{a: b, c: d}]"}, "line 2: {a: b, c: d} in defaults"),
        ({"model/mine": "defaults: [nope]"}, "line 1: there is no model=nope"),
        ({"model/mine": "defaults: [/nope: x]"}, "line 1: there is no group nope (groups: bench,"),
        ({"model/mine": "defaults: [/bits: w4a61]"}, "there is no bits=w4a61; did you mean w4a16?"),
        ({"model/mine": "defaults: [_self_, tiny, _self_]"}, "line 1: _self_ appears twice"),
        ({"model/mine": "defaults: [mine]"}, "line 1: the defaults lead back to this file"),
        (
            {"model/mine": "defaults: [other]", "model/other": "defaults: [/model: mine]"},
            "model/mine > model/other > model/mine",
        ),
        ({"model/mine": "# @package a..b\nname: a"}, "# @package a..b is not a package"),
        ({"model/mine": "# @package\nname: a"}, "Expected header format"),
    ],
)
def test_slips_of_composition(files: dict[str, str], said: str, own: Path) -> None:
    for name, content in files.items():
        (own / "conf" / f"{name}.yaml").write_text(content)
    with pytest.raises(UsageError) as caught:
        compose_config(["model=mine"])
    assert f"{own}/conf/model/mine.yaml" in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words", "said"),
    [
        ("defaults: [config, model: tiny]", [], "model is chosen twice; in a defaults list write"),
        ('defaults: [config, override model: "???"]', [], "model has no option: add model=OPTION"),
        ("defaults: [config, override text: c4]", [], "mine.yaml: its override of text has no"),
        ("defaults: [override model: tiny, config]", [], "mine.yaml: Override 'model : tiny' is"),
        ("model: {name: x}", ["model=tiny"], "model=tiny: the configuration has no model"),
    ],
)
def test_slips_of_a_configuration_of_ones_own(
    content: str, words: list[str], said: str, own: Path
) -> None:
    (own / "sweeps" / "mine.yaml").write_text(content)
    with pytest.raises(UsageError) as caught:
        compose_config(words, "mine")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "https://" not in str(caught.value)


def test_an_option_that_reads_as_a_number_is_quoted(own: Path) -> None:
    (own / "conf" / "bits" / "4.yaml").write_text("defaults: [w4a16]")
    with pytest.raises(UsageError, match="is of type int: quote it, as in \"bits='4'\""):
        compose_config(["bits=4"])
    assert compose_config(["bits='4'"]).bits.weight.num_bits == 4


def test_every_reader_of_a_users_file_tells_it(own: Path) -> None:
    for group in ("hardware", "text"):
        (own / "conf" / group / "mine.yaml").write_text("name: [a\n")
    (own / "sweeps" / "mine.yaml").write_text("defaults: [config, _self_\n")
    for read in (
        lambda: read_device("mine"),
        lambda: resolve_text("mine"),
        lambda: compose_config([], "mine"),
    ):
        with pytest.raises(UsageError, match=r"mine.yaml, line 1: a \[ that is not closed"):
            read()


def test_help_looks_at_files_alone(own: Path) -> None:
    os.mkfifo(own / "conf" / "model" / "pipe.yaml")
    (own / "conf" / "model" / "folder.yaml").mkdir()
    (own / "conf" / "model" / "wide.yaml").write_bytes("# été\n".encode("utf-16"))
    os.mkfifo(own / "sweeps" / "pipe.yaml")
    shown = help_text("model") + help_text()
    assert "wide" in shown
    assert "pipe" not in shown
    assert "folder" not in shown


def test_a_composed_files_faults_name_the_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("a: 1\nb:\n  <<: 3\n")
    with pytest.raises(UsageError, match=r"mine.yaml, line 3: expected a mapping .*found scalar"):
        load(path)
    path.write_text("a: ${b\n")
    with pytest.raises(UsageError, match=r"mine.yaml: no viable alternative at input '\${b'$"):
        load(path)


def test_the_line_of_a_key_is_that_of_as_much_of_it_as_there_is(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: a\nweight:\n  num_bits: 4\n")
    assert line_of(path, "weight.num_bits") == line_of(path, "bits.weight.num_bits") == 3
    assert line_of(path, "bits.weight") == 2
    assert line_of(path, "name.first") is None, "a text has no keys"
    assert line_of(path, "weight.symmetric") is None
