"""Scripts that make a 4-bit checkpoint by calls of a library, as its own examples do."""

ONESHOT = """
import functools, json, sys, time
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
print(json.dumps([time.process_time() - imported] * 2))
"""
"""Arguments: model, windows, Torch dtype name, method, directory to write to.

It ends with a line of JSON: seconds of work once all is imported, and of those that another recipe
of the model would take again.
"""
GGUF = """
import ctypes, json, os, subprocess, sys
import llama_cpp
imported = sum(os.times()[:4])
converter, model_directory, output = sys.argv[1:]
dense = f"{output}/dense.gguf"
subprocess.run([sys.executable, converter, model_directory, f"--outfile={dense}",
                "--outtype=bf16"], check=True, stdout=2)
converted = sum(os.times()[:4])
wanted = llama_cpp.llama_model_quantize_default_params()
wanted.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
done = llama_cpp.llama_model_quantize(
    dense.encode(), f"{output}/model.gguf".encode(), ctypes.byref(wanted))
assert done == 0
print(json.dumps([sum(os.times()[:4]) - since for since in (imported, converted)]))
"""
"""Arguments: llama.cpp's converter, model, directory to write to. It ends as the other does."""
