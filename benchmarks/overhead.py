"""What the runner costs over its libraries called by hand: same model, windows, types, machine.

Seconds are of processors, which other programs on the machine hardly change.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from runner.api import compose_config
from runner.environments.choose import choose
from runner.environments.manager import EnvironmentManager
from runner.pipeline.stages.jobs.windows import WINDOWS_FILE
from runner.store.objects import RESULT_FILE
from runner.store.records import read_records

_CALIBRATION = ("calibration.samples=8", "calibration.sequence_length=256")
_PREPARE = {
    "windows": ("method=rtn", "bits=w8a8", "method.activation_scales=static"),
    "converter": ("method=gguf", "bits=w8a16"),
}
"""Make the model, the text, the windows and llama.cpp's converter, which all find."""
_METHODS = {
    "rtn": (),
    "gptq": (),
    "awq": (),
    "autoround": ("method.iters=10",),
    "gguf": (),
}
"""And what is said of each beside its name."""
_GOAL = 1.05
_ONESHOT = """
import functools, json, sys, time
begun = time.process_time()
import torch
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.quantization import GPTQModifier, QuantizationModifier
from llmcompressor.modifiers.transform.awq import AWQModifier
from transformers import AutoModelForCausalLM, AutoTokenizer
model_directory, windows, dtype, method, output = sys.argv[1:]
if method == "autoround":
    from llmcompressor.modifiers.autoround import AutoRoundModifier, base
    # In the same arithmetic: the modifier has no setting for it.
    base.AutoRound = functools.partial(
        base.AutoRound, amp=dtype != "float32", scale_dtype="bfloat16")
imported = time.process_time()
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
    "autoround": lambda: [AutoRoundModifier(**groups, iters=10, batch_size=len(windows),
                                            enable_torch_compile=False)],
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
print(json.dumps([imported - begun, time.process_time() - imported]))
"""
_GGUF = """
import ctypes, json, os, subprocess, sys
import llama_cpp
imported = sum(os.times()[:4])
converter, model_directory, output = sys.argv[1:]
dense = f"{output}/dense.gguf"
subprocess.run([sys.executable, converter, model_directory, f"--outfile={dense}",
                "--outtype=bf16"], check=True, stdout=2)
wanted = llama_cpp.llama_model_quantize_default_params()
wanted.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
done = llama_cpp.llama_model_quantize(
    dense.encode(), f"{output}/model.gguf".encode(), ctypes.byref(wanted))
assert done == 0
print(json.dumps([imported, sum(os.times()[:4]) - imported]))
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
    """A recipe made by the runner and by hand, in seconds of processors."""

    method: str
    runner: float
    """Of the whole command."""
    quantize: float
    """Of the stage's process: load, quantize, save, account for what was written."""
    shared: float
    """Of what was made for all recipes of the model: its GGUF file."""
    check: float
    """Of the reload, which scores the checkpoint beside the model: a script has none."""
    imports: float
    by_hand: float
    """Without the imports."""

    def __str__(self) -> str:
        by_hand = self.imports + self.by_hand
        without = self.runner - self.check
        fixed = without - self.quantize - self.shared
        return (
            f"{self.method}: by hand {by_hand:.1f} s ({self.imports:.1f} of imports); the command "
            f"without its check {without:.1f} s ({fixed:.1f} of start, imports and record, "
            f"{self.quantize:.1f} of stage quantize, {self.shared:.1f} for all recipes of the "
            f"model): {without / by_hand:.2f}x (goal {_GOAL}); with the check, which reloads the "
            f"checkpoint, {self.runner:.1f} s: {self.runner / by_hand:.2f}x"
        )


def measure(methods: Collection[str] = tuple(_METHODS)) -> str:
    """Processor time of each recipe, by the runner and by hand, one after the other.

    Args:
        methods: Some of rtn, gptq, awq, autoround, gguf.
    """
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for sweep, words in _PREPARE.items():
            _runner(root, sweep, *words)
            # As if no recipe of the model had been made.
            for place in ("objects/gguf", "cache/dense_looks"):
                shutil.rmtree(root / "store" / place, ignore_errors=True)
        (cut,) = root.glob(f"store/objects/windows/*/{WINDOWS_FILE}")
        (model,) = root.glob("store/objects/model/*/model")
        compared = []
        for one in methods:
            compared.append(str(_compared(root, model, cut, one)))
            shutil.rmtree(root / "store" / "cache" / "dense_looks", ignore_errors=True)
        return "\n".join(compared)


def _compared(root: Path, model: Path, cut: Path, method: str) -> Compared:
    command = _runner(root, method, f"method={method}", *_METHODS[method])
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
    by_hand = taken(arguments, root)
    imports, work = json.loads(by_hand.printed.splitlines()[-1])
    shared = [
        json.loads(one.read_text("utf-8"))["resources"]["processor_seconds"]
        for one in root.glob(f"store/objects/gguf/*/{RESULT_FILE}")
        if method == "gguf"
    ]
    return Compared(
        method,
        command.processors,
        stage.resources.processor_seconds or 0.0,
        sum(shared),
        stage.resources.inspection_processor_seconds or 0.0,
        imports,
        work,
    )


def _llama_cpp() -> str:
    """The interpreter of llama.cpp's environment."""
    config = compose_config(["method=gguf"])
    root = Path(config.store.environments).expanduser().resolve()
    ready = EnvironmentManager(root, root).find(choose(config.environment, "llama_cpp", "cpu"))
    assert ready is not None  # the runner has just used it
    return ready.python


def _runner(root: Path, sweep: str, *words: str) -> Taken:
    return taken(
        [
            sys.executable, "-m", "runner", *words, *_CALIBRATION, "stages=[quantize]",
            f"sweep={sweep}", "tracker=none", f"store.root={root / 'store'}",
            f"hydra.run.dir={root / 'out'}",
        ],
        root,
    )  # fmt: skip


def taken(command: list[str], root: Path) -> Taken:
    before, start = _children(), time.perf_counter()
    # Threads that wait for others must not count as work.
    variables = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run(
        command, cwd=root, env=variables, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(done.stderr[-3000:])
    return Taken(time.perf_counter() - start, _children() - before, done.stdout)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
