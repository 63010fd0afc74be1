"""Every command in README.md and docs/ is tried.

What takes minutes is composed and its runs are judged by legality, as ``dry_run=true`` does, here
without a process of its own; so is what would change a machine. What is cheap is carried out:
plans, a report, comparisons, lists and help. What the tutorial's steps do is carried out for real
by test_main_job, test_multirun, test_calibration (a local model) and test_report_page.
"""

import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from docs import matrix
from runner.api import compose_config
from runner.cli.app import execute
from runner.cli.main import main
from runner.cli.subcommands import read_subcommand
from runner.pipeline.facts import gather_facts
from runner.planning.hardware.detect import detect
from runner.store.records import write_record
from runner.util.gpus import Gpu
from runner.util.paths import conf_dir, sweeps_dir
from runner.validation.check import check
from runner.validation.verdict import Severity
from tests.documents import PAGES, ROOT, Command, commands
from tests.unit.records import BASE, recipe, record, with_answers, with_quality

pytestmark = pytest.mark.integration

REFUSED = {"runner group_size=g128"}
"""Shown because they are refused."""
CARRIED_OUT = ("list", "verify", "--help")
"""Verbs that change nothing and take no time. (``env list`` looks through gigabytes: see
test_environments.py.)"""
GPUS = tuple(Gpu("NVIDIA H100 80GB HBM3", 85 * 10**9, "9.0", f"GPU-{n}", n) for n in range(8))
PLACEHOLDERS = {"SWEEP": "shown", "…": "method=rtn", "/models/mine": "models/mine"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that the pages name, and a store with a sweep."""
    folder = tmp_path_factory.mktemp("documents")
    prose = "A document has some words. " * 20_000
    (folder / "notes.txt").write_text(prose)
    (folder / "logs.jsonl").write_text(json.dumps({"body": prose}) + "\n")
    item = {"text": "Two and two are", "choices": ["four", "five"], "answer": 0}
    (folder / "items.jsonl").write_text(json.dumps(item) + "\n")
    (folder / "my_tasks").mkdir()
    (folder / "my_tasks" / "mine.yaml").write_text("task: mine\n")
    model = folder / "models" / "mine"
    model.mkdir(parents=True)
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
             "vocab_size": 512, "num_attention_heads": 4, "num_key_value_heads": 4}  # fmt: skip
    (model / "config.json").write_text(
        json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama", **sizes})
    )
    (model / "model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    write_gguf(folder / "models" / "mine.gguf")
    import pyarrow
    import pyarrow.parquet

    chats = pyarrow.table({"messages": [[{"role": "user", "content": prose}]]})
    pyarrow.parquet.write_table(chats, folder / "chats.parquet")
    for one in (
        record(0, "none-bf16", BASE, sweep="shown"),
        *(recipe(n, f"gptq-{n}", 21.0, 60.0, 90_000_000, sweep="shown") for n in (2, 6, 9)),
    ):
        write_record(folder / "store" / "runs", one)
    for sweep, number in (("gated", 1), ("gated", 2), ("released", 1), ("released", 2)):
        made = with_quality(number, 0.1, [0.19, 0.2, 0.21], sweep=sweep)
        write_record(folder / "store" / "runs", with_answers(made, "10" * 20, "10" * 20))
    sweeps = folder / "sweeps"
    sweeps.mkdir()
    for page in PAGES:
        for name, content in re.findall(
            r"```yaml\n# sweeps/(\w+)\.yaml[^\n]*\n(.*?)```", page.read_text("utf-8"), re.S
        ):
            (sweeps / f"{name}.yaml").write_text(content)
    return folder


def write_gguf(path: Path) -> None:
    """The dimensions of a small Llama and its matrices: enough to be judged."""
    import gguf
    import numpy as np

    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_block_count(2)
    writer.add_embedding_length(256)
    writer.add_feed_forward_length(512)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_context_length(8192)
    writer.add_vocab_size(512)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tensor("token_embd.weight", np.zeros((512, 256), np.float16))
    shapes = {f"attn_{name}": (256, 256) for name in ("q", "k", "v", "output")}
    shapes |= {"ffn_gate": (512, 256), "ffn_up": (512, 256), "ffn_down": (256, 512)}
    for block in range(2):
        for name, shape in shapes.items():
            writer.add_tensor(f"blk.{block}.{name}.weight", np.zeros(shape, np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(autouse=True)
def there(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(place)
    monkeypatch.setenv("QUANT_RUNNER_STORE", str(place / "store"))
    for name in ("QUANT_RUNNER_SWEEP", "PYTHONPATH", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    path = [*sys.path]
    yield
    sys.path[:] = path


ALL = [command for page in PAGES for command in commands(page)]


@pytest.mark.parametrize("command", ALL, ids=str)
def test_a_documented_command_works_as_written(
    command: Command, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program, *arguments = command.words
    if program == "make":
        targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert {word for word in arguments if "=" not in word} <= set(targets)
    elif program == "python":
        assert importlib.util.find_spec(arguments[arguments.index("-m") + 1])
    elif program == "runner":
        arguments = [replaced(argument) for argument in arguments]
        if any(argument.startswith("compare.m") for argument in arguments):
            arguments[1:3] = ["released", "gated"]
        elif arguments and arguments[0] == "audit":
            # Neither is there: both are stood in for by a model of the same sizes.
            ending = ".gguf" if ".gguf" in arguments[2] else ""
            arguments[1:3] = ["models/mine", f"models/mine{ending}"]
        elif arguments and arguments[0] in ("report", "compare"):
            arguments[1:] = [
                re.sub(r"^(?!latest$)[\w-]+(?![\w=.-])", "shown", a) for a in arguments[1:]
            ]
        elif arguments and arguments[0] == "gate":
            arguments[1:] = [re.sub(r"^[\w-]+(?![\w=.-])", "gated", a) for a in arguments[1:]]
        monkeypatch.setattr(sys, "argv", ["runner", *arguments])
        try_out(arguments, command.text in REFUSED, capsys)


def replaced(argument: str) -> str:
    for placeholder, value in PLACEHOLDERS.items():
        argument = argument.replace(placeholder, value)
    argument = re.sub(r"gate\.against=(?!base)[\w-]+", "gate.against=released", argument)
    return re.sub(r"(sweep=|compare\.[ab]=)[\w-]+", r"\1shown", argument)


def try_out(arguments: list[str], refused: bool, capsys: pytest.CaptureFixture[str]) -> None:
    first = arguments[0] if arguments else ""
    if first in ("env", "store", "track"):
        if first == "env":
            known = {path.stem for path in (conf_dir() / "environment").glob("*.yaml")}
            assert arguments[1] in ("list", "create", "check", "remove")
            assert set(arguments[2:]) <= known
        elif arguments[1] in CARRIED_OUT:
            assert exit_code() == 0, capsys.readouterr().err
        else:
            assert exit_code() in (0, 1, 2)
            assert "there is no runner" not in capsys.readouterr().err
    elif first in ("export", "publish"):
        # Names and fields are read; the records made up here have no checkpoint.
        assert exit_code() == 1
        assert "is not in the store any more" in capsys.readouterr().err
    elif {"--help", "--version"}.intersection(arguments):
        assert exit_code() == 0
    elif first in ("plan", "report", "compare", "gate"):
        sys.argv.append("tracker=none")
        code = execute()
        tests = first == "gate" or any(a.startswith("compare.m") for a in arguments)
        said = {"pass": 0, "fail": 3, "cannot tell": 4} if tests else {"": 0}
        shown = capsys.readouterr()
        assert code in said.values(), shown.err
        assert not tests or any(
            f"{'gate' if first == 'gate' else 'thresholds'}: {word} (" in shown.out
            for word, its in said.items()
            if its == code
        )
    elif first == "audit":
        assert legal(read_subcommand(arguments)) is not refused
    else:
        assert legal(arguments) is not refused


def legal(arguments: list[str]) -> bool:
    """Whether any of a command line's runs would be carried out here, or on a node of GPUs."""
    name = arguments[arguments.index("-cn") + 1] if "-cn" in arguments else "config"
    overrides = [a for a in arguments if "=" in a and not a.startswith("hydra")]
    for launcher in [a.partition("=")[2] for a in arguments if a.startswith("hydra/launcher=")]:
        shipped = {path.stem for path in (conf_dir() / "hydra" / "launcher").glob("*.yaml")}
        assert launcher in shipped | {"joblib", "basic"}
    if name != "config" and not overrides:
        # Every run of a ready sweep is composed by tests/unit/test_configs.py.
        return any((folder / f"{name}.yaml").is_file() for folder in (sweeps_dir(), Path("sweeps")))
    here = detect()
    node = replace(here, memory_bytes=2 * 10**12, gpus=GPUS)
    for job in jobs(overrides) if "-m" in arguments else [overrides]:
        config = compose_config(job, name)
        for machine in (here, node):
            verdicts = check(config, gather_facts(config, machine, job))
            if all(verdict.severity is not Severity.illegal for verdict in verdicts):
                return True
    return False


def jobs(overrides: list[str]) -> list[list[str]]:
    """Every choice of every key of a sweep once; the whole product would only repeat them."""
    choices = {}
    for override in overrides:
        key, _, value = override.partition("=")
        choices[key] = [value] if "[" in value else value.split(",")
    count = max(map(len, choices.values()))
    return [[f"{k}={v[n % len(v)]}" for k, v in choices.items()] for n in range(count)]


def exit_code() -> int:
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_links_between_pages_lead_somewhere() -> None:
    """Links between pages lead somewhere, and so do paths in backticks under docs/ and sweeps/."""
    for page in PAGES:
        text = page.read_text("utf-8")
        for target in re.findall(r"\]\(([^)#:]+)[^):]*\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
        for path in re.findall(r"`((?:docs|sweeps|tests)/[\w/.]+\.\w+)`", text):
            assert (ROOT / path).exists() or "mine" in path, f"{page.name}: {path}"


def test_the_matrix_is_what_the_rules_say_now() -> None:
    text = matrix.PATH.read_text("utf-8")
    assert matrix.replaced(text) == text, "run: python -m docs.matrix"
