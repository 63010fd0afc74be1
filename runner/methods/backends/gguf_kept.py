"""Tensors of a GGUF file that ``method.ignore`` leaves as they are."""

import re
from pathlib import Path

from runner.data.models.weights import tensor_headers
from runner.errors import StageError
from runner.methods.backends.llama_cpp import tensor_names


def kept_tensors(model_directory: Path, dense: Path, ignored: list[str]) -> list[str]:
    """Tensors of the GGUF file that belong to the layers which are not to be quantized."""
    if not ignored:
        return []
    names = tensor_names(dense, ["lm_head", *_modules(model_directory)])
    result = []
    for pattern in ignored:
        tensors = [
            tensor
            for module, tensor in names.items()
            if module == pattern
            or (pattern.startswith("re:") and re.match(pattern.removeprefix("re:"), module))
        ]
        if not tensors:
            raise StageError(f"method.ignore: no layer matches {pattern}")
        result += tensors
    return result


def _modules(model_directory: Path) -> list[str]:
    """Names of modules with a weight, from the headers of a model's files."""
    names = tensor_headers(model_directory)
    return [name.removesuffix(".weight") for name in names if name.endswith(".weight")]
