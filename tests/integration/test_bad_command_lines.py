"""Wrong requests end with one clear message and exit code 2, and leave nothing behind."""

import functools
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from runner.config.compose import quoted
from runner.planning.hardware.detect import detect
from tests.integration.conftest import Called, elsewhere, here

pytestmark = pytest.mark.integration

BAD = {
    "unknown option": ("method=gtpq", "there is no method=gtpq; did you mean gptq?"),
    "unknown group": ("mehtod=gptq", "there is no mehtod; did you mean method?"),
    "unknown field": ("bits.weight.num_bit=3", "did you mean num_bits?"),
    "field of another method": ("method.threshold=5", "there is no method.threshold (fields of"),
    "added field": ("+method.speed=9", "there is no method.speed"),
    "number for an option": ("bits=4", "there is no bits=4 (options of bits: auto, bf16,"),
    "word for a number": ("eval.windows=lots", "eval.windows=lots must be a whole number"),
    "unknown stage": ("stages=[nonsense]", "expected one of [audit, bench, compare, eval,"),
    "no stage": ("stages=[]", "nothing to do"),
    "no assignment": ("gptq", "gptq is not of the form group=option"),
    "unknown subcommand": ("pln", "there is no subcommand pln; did you mean plan? (subcommands: "),
    "subcommand that is not first": ("model=tiny plan", "a subcommand comes first: runner plan …"),
    "name for a plan": (
        "plan tiny",
        "runner plan takes overrides only, and tiny is not of the form",
    ),
    "one sweep to compare": ("compare a", "takes two sweeps or runs, not 1: runner compare A B"),
    "stages set twice": ("report stages=[eval]", "report sets the stages itself"),
    "no sweep to report, by name": ("report never_ran", "no records of sweep never_ran"),
    "unknown flag": ("--colour method=gptq", "unrecognized arguments: --colour; see runner --help"),
    "sweep without -m": ("bits=w4a16,w8a16", "add -m"),
    "unknown primary": (
        "tracker=none -cn nope",
        "there is no -cn nope (ready configurations: backends, budgets, calibration,",
    ),
    "unknown option in a sweep": ("-m method=gtpq,rtn", "did you mean gptq?"),
    "unknown option, shown": ("--cfg job method=gtpq", "did you mean gptq?"),
    "unresolvable": ("store.root=${nope}", "'nope' not found"),
    "bits the method lacks": (
        "method=bnb_4bit bits=w4a16",
        "method=bnb_4bit does not support w4a16, only nf4, fp4; try bits=nf4",
    ),
    "group size": (
        "group_size=g128",
        "128 does not divide the inputs of q/k/v_proj (576), o_proj (576), gate/up_proj (576); "
        "sizes that fit: g64, g32, g16; try group_size=g64",
    ),
    "local without a path": ("model=local", "model.path has no value: add model.path=…"),
    "path to nothing": ("model=local model.path=missing", "missing is not a directory"),
    "path to no model": ("model=local model.path=empty", "empty has no config.json"),
    "pickle": ("model=local model.path=pickled", "only pickled weights, which can run code"),
    "hub name": ("model=hub model.hub_id=a/b/c", "not of the form owner/name"),
    "text that is not there": (
        "calibration=local calibration.text.path=missing.txt",
        "there is no file missing.txt",
    ),
    "empty calibration": (
        "calibration=local calibration.text.path=empty.txt",
        "text empty.txt has no documents: empty.txt is empty",
    ),
    "short calibration": (
        "calibration=local calibration.text.path=short.txt",
        "has 22 bytes, fewer than the 4096 tokens that calibration needs (16 windows of 256)",
    ),
    "encoding": (
        "calibration=local calibration.text.path=latin1.txt",
        "latin1.txt is not UTF-8 (line 1 has a byte 0xe9 where none can be); convert it",
    ),
    "column": (
        "calibration=local calibration.text.reader=parquet calibration.text.field=words "
        "calibration.text.path=table.parquet",
        "table.parquet has no column words (columns: text); set field",
    ),
    "source": (
        "calibration=mixed calibration.sources=[{text:bibel,weight:1}]",
        "there is no text bibel for calibration.sources (options of text: bible,",
    ),
    "counts": (
        "calibration=mixed calibration.sources=[{text:bible,samples:4}]",
        "sources count 4 windows, calibration.samples is 16",
    ),
    "template": (
        "calibration.apply_chat_template=true",
        "no text contains conversations",
    ),
    "text that was not chosen": (
        "eval.text.path=short.txt",
        "eval.text.path=short.txt has no effect: eval.text is wikipedia, of kind package, which "
        "does not read path; try text@eval.text=local",
    ),
    "in a whole sweep": (
        "-m method=rtn,gptq eval.text.path=short.txt",
        "eval.text.path=short.txt has no effect",
    ),
    "field of no text": (
        "method=bnb_4bit calibration.text.path=short.txt",
        "this calibration has no text of its own",
    ),
    "line without the field": (
        "text@eval.text=local eval.text.path=lines.jsonl",
        "text lines.jsonl: line 2 of lines.jsonl has no field text (it has: body)",
    ),
    "device": (
        "engine.device=cuda",
        "no GPU answers on this machine; try engine.device=cpu",
    ),
    "another machine's bench": ("hardware=tpu_v5e", "which has no tpu_v5e"),
    "no sweep to report": ("stages=[report] sweep=never_ran", "no records of sweep never_ran"),
    "comparing and more": (
        "stages=[eval,compare] compare.a=x compare.b=y",
        "compare reads finished runs: use runner compare A B",
    ),
    "nothing to report": ("stages=[report]", "no records yet"),
    "too large": ("model=llama31_405b", "llama31_405b needs about"),
    "too long": ("eval.context_length=10000", "exceeds the model's context of 8192 tokens"),
    "static scales without text": (
        "method=rtn bits=w8a8 method.activation_scales=static calibration=none",
        "needs calibration text for static activation scales",
    ),
    "recipe that is not made": ("stages=[eval] method=gptq", "stages has no quantize, so method"),
    "tracker": (
        "tracker=neptune",
        "there is no tracker=neptune (options of tracker: mlflow, none, trackio, wandb)",
    ),
    # B5: what a shell passes as one word, and what cannot be told apart.
    "path with an accent": (
        "model=local 'model.path=modèle (1), [x]=a'",
        "model.path=modèle (1), [x]=a is not a directory",
    ),
    "path that may be two": (
        "-m model=local 'model.path=modèle,b'",
        "is ambiguous: write \"model.path='modèle,b'\" for one, "
        "\"model.path='modèle','b'\" for several",
    ),
    "no path": ("model=local model.path=", "model.path has no value"),
    "store that is a device": ("store.root=/dev/null", "the store /dev/null cannot be written to"),
    "no store": ("store.root=", "store.root is empty"),
    "reference": ("model=local 'model.path=/a/${nope}'", r"type 'model.path=/a/\${nope}'"),
    # B6 and B4: flags, sweeps, sweepers, launchers.
    "list": ("force=true", "force=true must be a list, such as force=[quantize]"),
    "two flags": ("--cfg job -m", "--multirun and --cfg: use one of them at a time"),
    "flag alone": ("--resolve model=tiny", "--resolve belongs to --cfg"),
    "no such part": ("--cfg job -p nope", "--package nope: the configuration has no such section"),
    "hidden configuration": ("-cp /tmp", "use --config-dir to add yours"),
    "option for a configuration": ("-cn model/tiny", "-cn model/tiny is an option: model=tiny"),
    "search path": ("hydra.searchpath=[file:///not/there]", "/not/there is no folder"),
    "policy": ("launch.on_failure=never", "expected continue, stop or stop_after_N"),
    "search without runs": (
        "-m hydra/sweeper=search hydra.sweeper.runs=-1 bits=w4a16,w8a16",
        "hydra.sweeper.runs=-1 must be 1 or more",
    ),
    "search of no field": (
        "-m hydra/sweeper=search +nope=1,2 model=tiny",
        "there is no nope",
    ),
    "launcher's setting": (
        "-m hydra/launcher=submitit_local hydra.launcher.timeout_min=x model=tiny",
        'hydra.launcher: Parameter "timeout_min"',
    ),
    "launcher of one run": (
        "hydra/launcher=submitit_local model=tiny",
        "hydra/launcher=submitit_local has an effect on sweeps alone: add -m",
    ),
    "sweeper of one run": ("+hydra.sweeper.runs=3 model=tiny", "has an effect on sweeps alone"),
    "open mapping": (
        "hydra.job.env_set={MINE:x} model=tiny",
        "there is no hydra.job.env_set.MINE yet; add it with +hydra.job.env_set.MINE",
    ),
    "Hydra's folder": ("hydra.run.dir=/dev/null/x model=tiny", "/dev/null/x: not a directory"),
    "own folder": ("-m hydra.sweep.dir=mine/this model=nope", "there is no model=nope"),
    "Hydra's copies": ("hydra.output_subdir=.hydra group_size=g48", "there is no group_size=g48"),
    "help": ("help", "did you mean --help?"),
    "verb's name": ("env list nope", "there is no environment nope (environments: default,"),
    "verb's flag": ("store list --all", "runner store list takes no --all"),
    "no verb": ("track snyc", "there is no runner track snyc; did you mean sync?"),
    # B2: files of the user's own.
    "tab": ("-m model=tiny,tab", "tab.yaml, line 2: a tab before the text"),
    "circle": ("model=circle", "circle.yaml, line 1: the defaults lead back to this file"),
    "device's file": (
        "stages=[plan] model=tiny plan.devices=[open]",
        "open.yaml, line 1: a [ that is not closed",
    ),
    "no configuration": ("-cn bare", "its defaults must begin with config"),
    "plugin": ("-m hydra/launcher=mine model=tiny", "os.system is not a launcher or sweeper"),
}
OWN = {
    "tab": ("conf/model/tab", "name: a\n\tkind: b\n"),
    "circle": ("conf/model/circle", "defaults: [circle]\n"),
    "device's file": ("conf/hardware/open", "name: [a\n"),
    "plugin": ("conf/hydra/launcher/mine", "_target_: os.system\n"),
    "no configuration": ("sweeps/bare", "model: {name: x}\n"),
}
"""What is wrong in a file of the user's own."""


IN_A_PROCESS = {"unknown option", "unknown flag", "group size", "device"}
"""Some of each kind, to see what a shell sees."""


_PROGRESS = re.compile(r"runner: .*: [\d,]+ of [\d,]+")


@dataclass(frozen=True)
class Refused:
    """What a wrong request got."""

    done: Called
    left: list[Path]


@pytest.fixture(scope="module")
def ask(
    tmp_path_factory: pytest.TempPathFactory, plain_variables: dict[str, str]
) -> Callable[[str], Refused]:
    """Makes a request, once for all who look at the answer."""
    return functools.cache(lambda case: _ask(case, tmp_path_factory.mktemp("bad"), plain_variables))


def _ask(case: str, directory: Path, variables: dict[str, str]) -> Refused:
    """Call in a working directory with directories that are no usable model, and bad texts."""
    (directory / "empty").mkdir()
    (directory / "empty.txt").write_text(" \n")
    (directory / "short.txt").write_text("a text of a few words.")
    (directory / "latin1.txt").write_bytes("déjà vu".encode("latin-1"))
    (directory / "lines.jsonl").write_text('{"text": "one"}\n{"body": "two"}\n')
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x"]}), directory / "table.parquet")
    pickled = directory / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text(json.dumps({"model_type": "llama"}))
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04")
    if case in OWN:
        name, content = OWN[case]
        path = directory / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    before = sorted(directory.rglob("*"))
    store = directory / "store"
    call = elsewhere if case in IN_A_PROCESS else here
    given = {**variables, "QUANT_RUNNER_STORE": str(store), "HF_HUB_OFFLINE": "1"}
    done = call(*shlex.split(BAD[case][0]), cwd=directory, variables=given)
    return Refused(done, [path for path in sorted(directory.rglob("*")) if path not in before])


@pytest.mark.parametrize("case", BAD)
def test_one_message_and_exit_code_2(case: str, ask: Callable[[str], Refused]) -> None:
    said = BAD[case][1]
    if case == "device" and detect().gpus:
        pytest.skip("this machine has a GPU")
    answer = ask(case)
    done = answer.done
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    # What takes long says how far it is, on a busy machine even here.
    lines = [line for line in done.stderr.splitlines() if not _PROGRESS.fullmatch(line)]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("runner: ")
    assert "Traceback" not in done.stdout + done.stderr
    assert done.stdout == ""
    assert answer.left == [], "a wrong request leaves nothing behind"


def test_a_path_that_a_shell_passes_is_read(
    tmp_path: Path, plain_variables: dict[str, str]
) -> None:
    name = "été (1), [x]=a $HOME 'q'.txt"
    (tmp_path / name).write_text("A text of some words. " * 2000)
    store = tmp_path / "un magasin, (2)"
    done = here(
        "model=tiny", "eval=quick", "method=none", "stages=[eval]", "tracker=none", "dry_run=true",
        "text@eval.text=local", f"eval.text.path={name}", f"store.root={store}",
        cwd=tmp_path, variables=plain_variables,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "would run" in done.stdout
    assert [*tmp_path.iterdir()] == [tmp_path / name], "nor does a dry run leave anything"


def test_a_shown_configuration_has_no_credentials(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "--cfg", "job", "sweep=${oc.env:MY_API_KEY}", "--resolve"],
        cwd=tmp_path,
        env={**os.environ, "MY_API_KEY": "not-for-logs-1234"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "sweep: '***'" in done.stdout or "sweep: ***" in done.stdout
    assert "not-for-logs" not in done.stdout


def test_a_record_of_another_version_is_told_in_one_line(tmp_path: Path) -> None:
    record = tmp_path / "runs" / "old" / "000-x" / "record.json"
    record.parent.mkdir(parents=True)
    record.write_text('{"sweep": "old"}')
    done = subprocess.run(
        [sys.executable, "-m", "runner", "stages=[report]", "sweep=old",
         f"store.root={quoted(tmp_path)}"],
        cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    said = f"runner: {record} is not a record that this version can read"
    assert done.stderr.startswith(said) and len(done.stderr.splitlines()) == 1, done.stderr
