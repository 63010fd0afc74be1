"""What the runner costs over its libraries called by hand: same model, windows, types, machine."""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from runner.api import compose_config
from runner.environments.choose import choose
from runner.environments.manager import EnvironmentManager
from runner.pipeline.stages.jobs.windows import WINDOWS_FILE
from runner.store.records import read_records

_CALIBRATION = ("calibration.samples=8", "calibration.sequence_length=256")
_PREPARE = {
    "windows": ("method=rtn", "bits=w8a8", "method.activation_scales=static"),
    "converter": ("method=gguf", "bits=w8a16"),
}
"""Make the model, the text, the windows and llama.cpp's converter, which all find."""
_METHODS = ("rtn", "gptq", "awq", "gguf")
_GOAL = 1.05
_ONESHOT = """
import json, sys, time
begun = time.perf_counter()
import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from transformers import AutoModelForCausalLM, AutoTokenizer
imported = time.perf_counter()
model_directory, windows, dtype, method, output = sys.argv[1:]
windows = json.load(open(windows))["windows"] if method != "rtn" else []
weights = QuantizationArgs(
    num_bits=4, type="int", strategy="group", group_size=64, symmetric=method != "awq",
    observer="memoryless_minmax", actorder="static" if method == "gptq" else None,
    scale_dtype=torch.bfloat16)
groups = {"config_groups": {"linear": QuantizationScheme(targets=["Linear"], weights=weights)},
          "ignore": ["lm_head"]}
modifiers = {
    "rtn": lambda: [QuantizationModifier(**groups)],
    "gptq": lambda: [GPTQModifier(**groups, dampening_frac=0.01, block_size=128,
                                  actorder="static")],
    "awq": lambda: [AWQModifier(duo_scaling=True, offload_device=torch.device("cpu")),
                    QuantizationModifier(**groups)],
}[method]()
model = AutoModelForCausalLM.from_pretrained(model_directory, dtype=getattr(torch, dtype))
text = {} if not windows else {
    "dataset": Dataset.from_dict({"input_ids": windows,
                                  "attention_mask": [[1] * len(one) for one in windows]}),
    "num_calibration_samples": len(windows), "max_seq_length": max(map(len, windows)),
    "shuffle_calibration_samples": False}
oneshot(model=model, recipe=modifiers, log_dir=None, **text)
model.save_pretrained(output, save_compressed=True)
AutoTokenizer.from_pretrained(model_directory).save_pretrained(output)
print(json.dumps([imported - begun, time.perf_counter() - imported]))
"""
_GGUF = """
import ctypes, json, subprocess, sys, time
begun = time.perf_counter()
import llama_cpp
imported = time.perf_counter()
converter, model_directory, output = sys.argv[1:]
dense = f"{output}/dense.gguf"
subprocess.run([sys.executable, converter, model_directory, f"--outfile={dense}",
                "--outtype=bf16"], check=True, stdout=2)
wanted = llama_cpp.llama_model_quantize_default_params()
wanted.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
done = llama_cpp.llama_model_quantize(
    dense.encode(), f"{output}/model.gguf".encode(), ctypes.byref(wanted))
assert done == 0
print(json.dumps([imported - begun, time.perf_counter() - imported]))
"""


@dataclass(frozen=True)
class Taken:
    """Seconds of one command."""

    wall: float
    processors: float
    """Of all its processes."""
    printed: str


@dataclass(frozen=True)
class Compared:
    """A recipe made by the runner and by hand."""

    method: str
    runner: Taken
    stage_seconds: float
    """Of stage quantize: load, quantize, save, account for what was written."""
    by_hand: Taken
    import_seconds: float
    work_seconds: float

    def __str__(self) -> str:
        stage, whole = (
            self.stage_seconds / (self.import_seconds + self.work_seconds),
            self.runner.processors / self.by_hand.processors,
        )
        return (
            f"{self.method}: stage quantize {self.stage_seconds:.1f} s, by hand "
            f"{self.import_seconds:.1f} s of imports and {self.work_seconds:.1f} s of work "
            f"({stage:.2f}x, goal {_GOAL}); the whole command, which also reloads and checks the "
            f"checkpoint, {self.runner.wall:.1f} s against {self.by_hand.wall:.1f} s, processor "
            f"time {self.runner.processors:.1f} against {self.by_hand.processors:.1f} s "
            f"({whole:.2f}x)"
        )


def measure() -> str:
    """Seconds of each recipe, by the runner and by hand, one after the other."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for sweep, words in _PREPARE.items():
            _runner(root, sweep, *words)
        (cut,) = root.glob(f"store/objects/windows/*/{WINDOWS_FILE}")
        (model,) = root.glob("store/objects/model/*/model")
        return "\n".join(str(_compared(root, model, cut, one)) for one in _METHODS)


def _compared(root: Path, model: Path, cut: Path, method: str) -> Compared:
    taken = _runner(root, method, f"method={method}")
    (record,) = read_records(root / "store" / "runs", method)
    (stage,) = [one for one in record.stages if one.stage == "quantize"]
    output = root / f"{method}-by-hand"
    output.mkdir()
    if method == "gguf":
        found = root.glob("store/cache/packages/*/*/tree/vendor/llama.cpp/convert_hf_to_gguf.py")
        arguments = [_llama_cpp(), "-c", _GGUF, str(next(found)), str(model), str(output)]
    else:
        dtype = stage.result["compute_dtype"]
        words = (str(model), str(cut), dtype, method, str(output))
        arguments = [sys.executable, "-c", _ONESHOT, *words]
    by_hand = _taken(arguments, root)
    imports, work = json.loads(by_hand.printed.splitlines()[-1])
    return Compared(method, taken, stage.resources.seconds or 0.0, by_hand, imports, work)


def _llama_cpp() -> str:
    """The interpreter of llama.cpp's environment."""
    config = compose_config(["method=gguf"])
    root = Path(config.store.environments).expanduser().resolve()
    ready = EnvironmentManager(root, root).find(choose(config.environment, "llama_cpp", "cpu"))
    assert ready is not None  # the runner has just used it
    return ready.python


def _runner(root: Path, sweep: str, *words: str) -> Taken:
    return _taken(
        [
            sys.executable, "-m", "runner", *words, *_CALIBRATION, "stages=[quantize]",
            f"sweep={sweep}", "tracker=none", f"store.root={root / 'store'}",
            f"hydra.run.dir={root / 'out'}",
        ],
        root,
    )  # fmt: skip


def _taken(command: list[str], root: Path) -> Taken:
    before, start = _children(), time.perf_counter()
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        command, cwd=root, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-3000:])
    return Taken(time.perf_counter() - start, _children() - before, done.stdout)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
