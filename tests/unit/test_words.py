"""A path that the shell passes as one word is taken as it is."""

import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from runner.config.compose import register
from runner.config.fields import is_text, wanted
from runner.config.words import quoted, read_words, settled, shell_word, typed_as
from runner.errors import UsageError

pytestmark = pytest.mark.unit

HOSTILE = [
    "/data/modèle", "a b", " a", "a ", "a(b)", "a,b", "[a]", "{a}", "a=b", "it's", '"q"x', "$HOME",
    "a#b;&|<>!^`", "日本😀", "a:b", "a\\b", "a\\", "a\\\\", "a\\'b", "a'\\", "\\'", "true", "3",
    "1e3", "nan", "~/x", "choice(a,b)", "x\ny", "\t", "'a'b'", "'a", "a'", "TRUE", ".", "[/bold]",
    "a\udce9b", "%x", "@x", "a" * 5000, "a,b,c d", "glob(*)", "-x",
]  # fmt: skip
TEXTS = ["model.path", "+tracker.project", "hydra.run.dir", "environment.legacy.python"]


@pytest.fixture(autouse=True)
def _registered() -> None:
    register()


def value_of(word: str) -> object:
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("key", TEXTS)
def test_a_text_is_taken_as_the_shell_passed_it(key: str) -> None:
    for value in HOSTILE:
        (word,) = read_words([f"{key}={value}"], sweep=False)
        assert value_of(word) == value
        assert read_words([word], sweep=False) == [word], "once is enough"


def test_quotes_of_hydras_and_references_keep_their_meaning() -> None:
    kept = [
        "model.path='a b'", 'model.path="a,b"', "model.path=null", "model.path=", "sweep=plain-1.0",
        "sweep=${oc.env:NAME}", "eval.windows=16", "stages=[eval,bench]", "method=gptq", "~eval",
        "bits.weight.num_bits=4", "text@eval.text=bible", "claims=[{id: a}]", "gptq", "=", "",
    ]  # fmt: skip
    assert read_words(kept, sweep=False) == kept


def test_what_the_message_says_to_type_is_that_text() -> None:
    for value in HOSTILE:
        assert value_of(f"model.path={quoted(value)}") == value
        (typed,) = shlex.split(typed_as("model.path", value))
        assert value_of(typed) == value
    assert shell_word("model.path='/a b'") == "\"model.path='/a b'\""


def test_a_sweep_has_hydras_grammar() -> None:
    same = ["model.path=/a,/b", "sweep=a,b", "model.path='a,b',c", "model.path=choice(a,b)"]
    assert read_words(same, sweep=True) == same
    one = {"/data/modèle", "a(b)", "1e3", "[a]", "a=b"}
    for value in one:
        (word,) = read_words([f"model.path={value}"], sweep=True)
        assert value_of(word) == value
    with pytest.raises(UsageError) as caught:
        read_words(["model.path=/data/modèle,b"], sweep=True)
    first, second = shlex.split(str(caught.value))[-6], shlex.split(str(caught.value))[-3]
    assert value_of(first) == "/data/modèle,b"
    assert OverridesParser.create().parse_override(second).is_sweep_override()


def test_lists_of_texts_and_fields_of_any_kind() -> None:
    (word,) = read_words(["tracker.tags=[été,b c,'x,y']"], sweep=False)
    assert [str(getattr(one, "text", one)) for one in _list(word)] == ["été", "b c", "x,y"]
    (word,) = read_words(["hydra.launcher.partition=/é"], sweep=False)
    assert value_of(word) == "/é"
    assert read_words(["eval.windows=é"], sweep=False) == ["eval.windows='é'"]


def _list(word: str) -> list[object]:
    value = value_of(word)
    assert isinstance(value, list)
    return value


@pytest.mark.parametrize(
    "word",
    ["eval.windows=" + "9" * 5000, "claims=" + "[" * 500 + "]" * 500, "sweep=" + "${a:" * 100],
)
def test_reading_a_word_ends(word: str) -> None:
    with pytest.raises(UsageError, match="more than"):
        read_words([word], sweep=False)


def test_a_job_of_a_sweep_is_the_same_run_of_its_own() -> None:
    for override in ["model.path=a\\,b", "model.path='a,b'", "eval.windows=3", "model.path=/a"]:
        expected = OverridesParser.create().parse_override(override).value()
        (word,) = read_words([settled(override)], sweep=False)
        assert value_of(word) == expected


def test_classes_say_what_a_field_is() -> None:
    assert all(is_text(key.lstrip("+")) for key in TEXTS)
    assert not any(map(is_text, ["eval.windows", "stages", "method", "nope", "hydra.launcher.x"]))
    assert wanted("method.threshold") == "a number", "of a method that is not chosen"
    assert wanted("calibration.sources.0.weight") == "a number, or null", "of an entry of a list"
    assert wanted("dry_run") == "true or false"
    assert wanted("engine.threads") == "a whole number, or null"
    assert wanted("hydra.sweeper.runs") is not None
    assert wanted("nope") is None
