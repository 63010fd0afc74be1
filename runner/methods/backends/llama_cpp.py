"""GGUF files through llama.cpp: conversion, importance matrices and quantization."""

import ctypes
import functools
import json
import re
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.models.gguf_file import read_gguf
from runner.data.models.load import load_model
from runner.data.packages import fetch_tree
from runner.errors import StageError
from runner.methods.backends import gguf_converter
from runner.methods.backends.gguf_types import TensorType, TypeChoice
from runner.methods.base import Progress
from runner.util.forked import Forked
from runner.util.llama_cpp_log import ERROR, WARNING, listen, print_warnings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NAME = "llama_cpp"
"""What an environment provides that has it."""
_VENDOR = "vendor/llama.cpp"
# The converter of the very llama.cpp that the environment compiles.
_PACKAGE, VERSION = "llama-cpp-python", "0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
_LAST_LINES = 50
_LONGEST_LINE = 10_000


def converter(cache: Path) -> Path:
    """Path of llama.cpp's conversion script, fetched on first use and then kept.

    Raises:
        StageError: It cannot be had.
    """
    script = f"{_VENDOR}/convert_hf_to_gguf.py"
    needed = (script, f"{_VENDOR}/conversion", f"{_VENDOR}/gguf-py")
    return fetch_tree(_PACKAGE, VERSION, needed, SHA256, cache) / script


def convert(model_directory: Path, destination: Path, outtype: str, converter: Path) -> None:
    """Write a model in Hugging Face layout as one GGUF file.

    Args:
        model_directory: What to read.
        destination: File to write.
        outtype: ``f32``, ``f16`` or ``bf16``.
        converter: llama.cpp's script, see ``converter``.

    Raises:
        StageError: llama.cpp does not know the architecture or the tokenizer.
    """
    # Forked: it needs what this process has imported, which takes longer than its work.
    arguments = (str(model_directory), f"--outfile={destination}", f"--outtype={outtype}")
    process = Forked(functools.partial(gguf_converter.main, str(converter), *arguments))
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        while line := process.output.readline(_LONGEST_LINE):
            print(line, end="", flush=True)
            lines.append(line.strip())
        code = process.wait()
    finally:
        process.end()
    if code != 0:
        config = json.loads((model_directory / "config.json").read_text("utf-8"))
        kind = (config.get("architectures") or [config.get("model_type")])[0]
        reason = _reason([*lines]) or f"its converter ended with {code}"
        raise StageError(f"llama.cpp cannot convert {kind}: {reason}")


def _reason(lines: list[str]) -> str:
    """The last line that says something; exceptions without a message are passed over."""
    for line in reversed(lines):
        if text := re.sub(r"^(ERROR|WARNING):[\w.-]+:\s*|^\w+(Error|Exception)\b:?\s*", "", line):
            return text
    return ""


def tensor_names(source: Path, modules: list[str]) -> dict[str, str]:
    """Names in a GGUF file of the weights of a Hugging Face model's modules.

    Modules without a tensor of their own are left out; a head that shares the input
    embedding has that one's.
    """
    import gguf

    reader = read_gguf(source)
    present: set[str] = {tensor.name for tensor in reader.tensors}
    architecture = reader.fields["general.architecture"].contents()
    blocks = reader.fields[f"{architecture}.block_count"].contents()
    kinds = {name: kind for kind, name in gguf.MODEL_ARCH_NAMES.items()}
    if architecture not in kinds:
        raise StageError(f"the package gguf does not know the architecture {architecture}")
    mapped = gguf.get_tensor_name_map(kinds[architecture], blocks)
    names = {}
    for module in modules:
        name = mapped.get_name(f"{module}.weight", try_suffixes=(".weight",))
        if name == "output.weight" and name not in present:
            name = "token_embd.weight"
        if name in present:
            names[module] = name
    return names


def importance_matrix(
    model_directory: Path,
    source: Path,
    windows: list[list[int]],
    *,
    trust_remote_code: bool,
    device: str,
    dtype: str,
    progress: Progress,
) -> dict[str, "NDArray[np.float32]"]:
    """Mean square of every input of every linear layer over calibration text.

    It is what ``llama-imatrix`` counts, computed by transformers. The output embedding is
    left out, as there. Input channels are taken in the order of the Hugging Face model.

    Args:
        model_directory: The model.
        source: The same model as a GGUF file, for its tensors' names.
        windows: Calibration windows of token ids.
        trust_remote_code: Whether the model's own code may run.
        device: Where to compute.
        dtype: Torch dtype name to compute in.
        progress: Told about windows.

    Returns:
        Vectors of each tensor's input width, by the tensor's name in ``source``.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    model = load_model(
        model_directory, dtype=getattr(torch, dtype), trust_remote_code=trust_remote_code
    )
    model = model.to(device).eval()
    head = model.get_output_embeddings()
    sums: dict[str, torch.Tensor] = {}
    rows: Counter[str] = Counter()

    def add(name: str) -> Callable[[Any, tuple[torch.Tensor, ...]], None]:
        def hook(_: Any, inputs: tuple[torch.Tensor, ...]) -> None:
            states = inputs[0].detach().flatten(0, -2).float()
            sums[name] = sums.get(name, 0) + states.square().sum(0, dtype=torch.float64)
            rows[name] += len(states)

        return hook

    layers = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, (torch.nn.Linear, Conv1D)) and module is not head
    }
    names = tensor_names(source, list(layers))
    hooks = [layers[module].register_forward_pre_hook(add(name)) for module, name in names.items()]
    with torch.inference_mode():
        for done, window in enumerate(windows):
            progress(done, len(windows), "finding which inputs matter")
            ids = torch.tensor([window], device=device)
            # Without the head: the decoder's states are all that the layers need.
            model.get_decoder()(input_ids=ids, use_cache=False)
    for handle in hooks:
        handle.remove()
    return {name: (sums[name] / rows[name]).float().cpu().numpy() for name in sums}


def quantize_file(
    source: Path,
    destination: Path,
    types: TypeChoice,
    *,
    threads: int,
    matrix: dict[str, "NDArray[np.float32]"] | None,
    keep: list[str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Quantize a GGUF file of 16- or 32-bit floats.

    llama.cpp keeps the output embedding (and an input embedding that serves as one) in
    more bits, and takes another type for tensors whose width is no multiple of the type's
    blocks; both show in what is printed at the end.

    Args:
        source: What to read.
        destination: File to write.
        types: The mix of types, and choices for some tensors.
        threads: CPU threads.
        matrix: Importance of inputs by tensor name, or ``None``.
        keep: Names of tensors to leave in the type they have.
        progress: Told about tensors.

    Raises:
        StageError: llama.cpp cannot do it, or a choice of a type has no effect.
    """
    import llama_cpp

    unquantized = read_gguf(source).tensors
    types.check_source(unquantized)
    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{types.file_type}")
    parameters.nthread = threads
    parameters.pure = types.pure
    if types.input_embedding:
        parameters.token_embedding_type = _number_of(types.input_embedding)
    if types.output_embedding:
        parameters.output_tensor_type = _number_of(types.output_embedding)
    # Arrays end with an entry without a name. What they point to must outlive the call.
    vectors = (llama_cpp.llama_model_imatrix_data * (len(matrix or {}) + 1))()
    for entry, (name, values) in zip(vectors, (matrix or {}).items(), strict=False):
        data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entry.name, entry.data, entry.size = name.encode(), data, values.size
    if matrix:
        parameters.imatrix = vectors
    # The first pattern that is found in a name counts.
    chosen = [
        (f"^{re.escape(tensor.name)}$", int(tensor.tensor_type))
        for tensor in unquantized
        if tensor.name in (keep or [])
    ]
    asked = [*types.patterns.items(), *types.others.items()]
    chosen += [(pattern, _number_of(wanted)) for pattern, wanted in asked]
    overrides = (llama_cpp.llama_model_tensor_override * (len(chosen) + 1))()
    for override, (pattern, number) in zip(overrides, chosen, strict=False):
        override.pattern, override.type = pattern.encode(), number
    if chosen:
        parameters.tt_overrides = overrides
    problems: list[str] = []

    def follow(level: int, line: str) -> None:
        if level in (WARNING, ERROR):
            print(line, flush=True)
            problems.append(line)
        elif progress and (match := re.match(r"\[\s*(\d+)/\s*(\d+)\]", line)):
            progress(int(match[1]) - 1, int(match[2]), "rounding tensors")

    listen(follow)
    code = llama_cpp.llama_model_quantize(
        str(source).encode(), str(destination).encode(), ctypes.byref(parameters)
    )
    listen(print_warnings)
    if code != 0:
        reason = _reason(problems).rpartition("failed to quantize: ")[2] or f"it returned {code}"
        raise StageError(f"llama.cpp cannot quantize to {types.file_type}: {reason}")
    written = read_gguf(destination).tensors
    counts = Counter(found.tensor_type.name for found in written)
    print(
        f"{types.file_type}: "
        + ", ".join(f"{n} tensors {kind}" for kind, n in counts.most_common())
    )
    for note in types.check_written(written):
        print(note, flush=True)


def _number_of(wanted: TensorType) -> int:
    import gguf

    return int(gguf.GGMLQuantizationType[wanted.value])
