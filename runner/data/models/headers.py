"""Headers of safetensors and GGUF files, read without loading any tensor."""

import math
from pathlib import Path

from runner.data.models.gguf_header import read_header
from runner.data.models.header import Header
from runner.data.models.safetensors_header import read_safetensors_header
from runner.util.given import FileFault


def read_headers(file: Path) -> dict[str, Header]:
    """Header of every tensor in a safetensors or GGUF file, by name.

    Raises:
        FileFault: It is no such file, or not all of it is there.
    """
    return _gguf(file) if file.suffix == ".gguf" else read_safetensors_header(file)


def _gguf(file: Path) -> dict[str, Header]:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

    # The package's own reader takes seconds for a large vocabulary.
    headers = {}
    for name, tensor in read_header(file).tensors.items():
        try:
            kind = GGMLQuantizationType(tensor.type)
        except ValueError:
            what = f"contains {name} in ggml type {tensor.type}, which is unknown"
            raise FileFault(file, what) from None
        elements = math.prod(tensor.shape)
        block, size = GGML_QUANT_SIZES[kind]
        # ggml has columns first.
        headers[name] = Header(kind.name, elements, elements // block * size, tensor.shape[::-1])
    return headers
