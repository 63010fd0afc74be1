"""Hydra's and OmegaConf's refusals in our words, with the nearest name; and faults of our own."""

from pathlib import Path

import pytest

from runner.api import compose_config
from runner.cli.faults import tell_fault
from runner.errors import UsageError, complain
from runner.util.suggest import nearest

pytestmark = pytest.mark.unit

CHOICES = {
    "gptq": "gptq is not of the form group=option or group.field=value; did you mean method=gptq?",
    "help": "did you mean --help?",
    "env": "is not of the form group=option",
    "=gptq": "there is no name before the =",
    "method": "is not of the form group=option",
    "bits..weight=3": "bits..weight is not the name of a group or field",
    "method=GPTQ": "did you mean gptq?",
    "method=gptq.yaml": None,
    "model=é": "there is no model=é",
    "+method=rtn": "+method=rtn: method has an option already: method=rtn chooses another",
    "++method=rtn": "an option is chosen without ++: method=rtn",
    "model/zoo=llama2": "that is model=zoo/llama2",
    "model@foo=tiny": "model has one place: model=tiny",
    "text=bible": "an option of text is chosen for a place: text@eval.text",
    "task=facts": "+task@tasks.own.NAME",
    "hydra/nope=x": "there is no hydra/nope",
    "hydra/launcher=nope": "there is no hydra/launcher=nope",
    "~nothing": "~nothing: there is no nothing to remove",
    "~eval.windows": "a field cannot be removed; set it to another value",
    "bits=range(1,3)": "has several values: add -m for a sweep",
}
VALUES = {
    "force=true": "force=true must be a list, such as force=[quantize]",
    "stages=eval": "stages=eval must be a list, such as stages=[quantize]",
    "stages=[eval": "stages=[eval must be a list",
    "stages=[evil]": "expected one of [bench, compare, eval, ",
    "stages=[quantise]": "did you mean quantize?",
    "stages=[[eval]]": "stages must be a list",
    "~stages": "stages has no value",
    "eval.windows=null": "eval.windows=null must be a whole number",
    "eval.windows=int(abc)": "must be a whole number",
    "engine.device=gpu": "'gpu' is not known, expected one of [auto, cpu, cuda]",
    "store=foo": "store=foo must be a section: set its fields, such as store.root=…",
    "bits.weight.num_bits.x=3": "bits.weight.num_bits has no fields",
    "sweep=${nope}": "'nope' not found, so ${nope} refers to nothing; if it is text, type "
    r"'sweep=\${nope}'",
    "sweep=${sweep}": "it refers to itself",
    "sweep=${oc.env:NOT_SET_ANYWHERE}": "the environment variable NOT_SET_ANYWHERE is not set",
    "sweep=${nope:x}": "there is no ${nope:…}",
    "+text@eval.foo=bible": "there is no eval.foo",
    "store.root=": "store.root is empty",
}


@pytest.mark.parametrize("word", [*CHOICES, *VALUES])
def test_a_refusal_is_in_our_words(word: str) -> None:
    said = (CHOICES | VALUES)[word]
    if said is None:
        compose_config([word])
        return
    with pytest.raises(UsageError) as caught:
        compose_config([word])
    message = str(caught.value)
    assert said in message
    assert "\n" not in message
    for theirs in ("Config", "omegaconf", "hydra.cc", "object_type", "defaults list", "subclass"):
        assert theirs not in message


def test_the_nearest_name_whatever_its_case_and_ending() -> None:
    assert nearest("TINY", ["tiny", "large"]) == "tiny"
    assert nearest("tiny.yaml", ["tiny", "large"]) == "tiny"
    assert nearest("tinny", ["tiny", "large"]) == "tiny"
    assert nearest("x" * 100_000, ["tiny", "large"]) is None


def test_a_complaint_takes_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert complain("a\nb \x1b[31mc [bold] " + "x" * 10_000) == 2
    said = capsys.readouterr().err
    assert said.startswith("runner: a\\nb \\x1b[31mc [bold] x")
    assert said.count("\n") == 1
    assert len(said) < 4000


def test_a_fault_of_ours_takes_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "not-for-any-log")
    try:
        raise KeyError("not-for-any-log\nwhy")
    except KeyError as error:
        assert tell_fault(error, tmp_path) == 1
        assert "HYDRA_FULL_ERROR=1 shows the traceback" in capsys.readouterr().err
        assert not any(tmp_path.iterdir()), "nothing is made for it"
        (tmp_path / "logs").mkdir()
        assert tell_fault(error, tmp_path) == 1
    said = capsys.readouterr().err
    (kept,) = (tmp_path / "logs").iterdir()
    assert said.count("\n") == 1
    assert said.startswith("runner: internal error: KeyError: ")
    assert str(kept) in said
    assert "Traceback" not in said
    assert "Traceback" in kept.read_text()
    assert "not-for-any-log" not in said + kept.read_text()
