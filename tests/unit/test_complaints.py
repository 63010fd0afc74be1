"""Hydra's and OmegaConf's refusals in our words, with the nearest name; and faults of our own."""

import errno
import shlex
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from hydra.types import RunMode
from omegaconf.errors import ValidationError

from runner.api import compose_config
from runner.cli.faults import fault, tell_fault
from runner.config.errors import explain
from runner.config.field_errors import explain_field
from runner.errors import UsageError, complain, reason
from runner.util.suggest import nearest, unknown

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
    "model/zoo=nope": "there is no model/zoo; did you mean model?",
    "model=zoo/gema2": "there is no model=zoo/gema2; did you mean zoo/gemma2?",
    "model=tiny,": "there is no model=tiny,; did you mean tiny?",
    "hydra/job_logging@foo=x": "hydra/job_logging has one place: hydra/job_logging=x",
    "nope@foo=x": "there is no nope (groups: bench, bits,",
    "method=[gptq,rtn]": "Gptq and Rtn have different fields; choose one",
    "hydra/launcher=ray,basic": "has several values: add -m",
    "~engine": "engine has no option: add engine=OPTION",
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
    "stages=[evil]": "expected one of [audit, bench, compare, eval, ",
    "stages=[quantise]": "did you mean quantize?",
    "stages=[[eval]]": "stages must be a list",
    "~stages.0": "~stages.0: an entry of a list cannot be removed",
    "calibration.sources.0.weight=3": "there is no calibration.sources[0] yet; set the whole list",
    "calibration.sources=[{text:bible,nope:1}]": "there is no nope (fields in calibration.sources:",
    "calibration.sources=[{text:{name:bible,documents:0}}]": "documents=0 is less than 1",
    "hydra.searchpath=3": "hydra.searchpath must be a list of strings. Got: 3",
    "~stages": "stages has no value",
    "eval.windows=null": "eval.windows=null must be a whole number",
    "eval.windows=int(abc)": "must be a whole number",
    "engine.device=gpu": "engine.device=gpu is unknown: expected one of [auto, cpu, cuda, cuda:N]",
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


UNREADABLE = {
    "foo=[1,[2]": "[ and ] do not come in pairs",
    "foo={a:1": "{ and } do not come in pairs",
    "foo='a": "a quote is not closed",
    "foo=${}": "a ${ without a reference",
    "foo=a,": "a value is missing between two commas",
    "foo=[a,,b]": "a value is missing between two commas",
    "foo=a{}b": "Hydra's grammar cannot parse the value",
}


@pytest.mark.parametrize("word", UNREADABLE)
def test_what_the_grammar_cannot_read_is_told_with_its_reason_and_how_to_quote_it(
    word: str,
) -> None:
    with pytest.raises(OverrideParseException) as caught:
        OverridesParser.create().parse_overrides([word])
    told = explain(caught.value)
    assert told.startswith(f"{word}: {UNREADABLE[word]}; if it is one string, write ")
    (shell,) = shlex.split(told.partition(" write ")[2])
    assert OverridesParser.create().parse_override(shell).value() == word.partition("=")[2]


def test_a_sweep_over_hydras_own_settings_is_refused_in_our_words() -> None:
    with pytest.raises(HydraException) as caught:
        ConfigLoaderImpl.validate_sweep_overrides_legal(
            OverridesParser.create().parse_overrides(["hydra.verbose=true,false"]),
            RunMode.MULTIRUN,
            from_shell=True,
        )
    said = "hydra.verbose=true,false: a sweep has one choice of each of Hydra's own settings"
    assert explain(caught.value) == said


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


def test_what_omegaconf_objects_to_for_an_unknown_reason_is_told_as_it_is() -> None:
    assert explain(ValidationError("Odd value\n    full_key: ")) == "Odd value"
    said = explain_field(ValidationError("Odd value"), "nope.x=1", None, ["nope.x=1"])
    assert said == "nope.x=1: odd value"


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


def test_the_system_says_what_is_wrong_with_a_path_and_not_with_a_disk() -> None:
    said = reason(OSError(errno.ENOTDIR, "Not a directory", "/dev/null/x"))
    assert said == "/dev/null/x: not a directory"
    assert reason(OSError(errno.ENOSPC, "No space left", "/full/x")) is None
    assert reason(OSError(errno.EACCES, "Permission denied")) is None


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


def test_a_faults_message_is_cut_and_where_nothing_can_be_kept_none_is_named(
    tmp_path: Path,
) -> None:
    (tmp_path / "logs").symlink_to("/proc")  # takes no files, not even root's
    said = fault(KeyError("x" * 1000), tmp_path)
    assert said.startswith(f"internal error: KeyError: '{'x' * 299}…; HYDRA_FULL_ERROR=1 shows")


def test_of_nothing_that_exists_no_name_is_suggested() -> None:
    assert unknown("model x", [], "x", "models") == "there is no model x"
