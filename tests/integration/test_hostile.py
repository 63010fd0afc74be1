"""Hostile models by the command line, and pickles that are taken as data alone."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from runner.config.compose import quoted
from tests.hostile import HOSTILE
from tests.hostile_files import SINGLE, sound, trap
from tests.integration.conftest import Called, base_model, records

pytestmark = pytest.mark.integration

LOCAL = ("model=local", "eval=quick", "bench=quick", "tracker=none")
NAMES = (
    "index names a pickle", "index names a file beside", "weights are a device",
    "tokenizer is a pipe", "config is nested deeply", "hidden size is a text",
    "header of 2^60 bytes", "GGUF of 2^60 fields",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_refuses_in_one_line_and_leaves_nothing(
    name: str, command: Callable[..., Called], tmp_path: Path
) -> None:
    directory = sound(tmp_path / "models" / "m")
    HOSTILE[name].make(directory)
    done = command(*LOCAL, f"model.path={quoted(directory)}", "stages=[eval]")
    assert done.returncode == 2, done.stdout
    (said,) = done.stderr.splitlines()
    assert HOSTILE[name].named in said
    assert not (tmp_path / "models" / "sprung").exists()
    assert not list(tmp_path.glob("outputs*"))


def test_pickles_alone_are_loaded_evaluated_and_quantized_as_data(
    command: Callable[..., Called], store: Path, tmp_path: Path
) -> None:
    made = command("model=tiny", "eval=quick", "method=none", "stages=[eval]", "tracker=none",
                   "sweep=hostile_made")  # fmt: skip
    assert made.returncode == 0, made.stderr
    source = base_model(store, records(store, "hostile_made")[0])
    tensors = load_file(source / SINGLE)
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    for path in source.iterdir():
        if path.name != SINGLE:
            (pickled / path.name).write_bytes(path.read_bytes())
    # Two names of one matrix, as torch saves a head that is tied; and what nobody should open.
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    places = {}
    for number, names in enumerate((sorted(tensors)[::2], sorted(tensors)[1::2]), start=1):
        file = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({name: tensors[name] for name in names}, pickled / file)
        places |= dict.fromkeys(names, file)
    (pickled / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    trap(pickled / "training_args.bin")
    words = (*LOCAL, f"model.path={quoted(pickled)}", "stages=[quantize,eval]", "method=rtn",
             "bits=w8a16", "group_size=g32")  # fmt: skip
    refused = command(*words)
    assert (refused.returncode, "model.allow_pickle=true" in refused.stderr) == (2, True)
    done = command(*words, "model.allow_pickle=true", "sweep=pickled")
    assert done.returncode == 0, done.stderr
    (record,) = records(store, "pickled")
    assert any("allow_pickle" in warning for warning in record["warnings"])
    assert [stage["stage"] for stage in record["stages"]] == ["quantize", "eval", "eval"]
    results = [
        json.loads((store / "objects" / "eval" / stage["key"] / "result.json").read_text())
        for record in (records(store, "hostile_made")[0], record)
        for stage in record["stages"]
        if stage["stage"] == "eval" and stage["subject"] == "baseline"
    ]
    first, second = (one["result"]["perplexity"] for one in results)
    assert first == second
    assert not (tmp_path / "sprung").exists()


def test_a_pickle_that_would_call_something_is_not_opened(
    command: Callable[..., Called], tmp_path: Path
) -> None:
    directory = sound(tmp_path / "models" / "m")
    (directory / SINGLE).unlink()
    trap(directory / "pytorch_model.bin")
    done = command(*LOCAL, f"model.path={quoted(directory)}", "model.allow_pickle=true")
    assert (done.returncode, "it would call posix.mkdir" in done.stderr) == (2, True)
    assert not (tmp_path / "models" / "sprung").exists()
