"""A GGUF file as a model in Hugging Face layout: dequantized, every tensor accounted for."""

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.data.models.directory import MADE_DTYPE, save
from runner.data.models.gguf_config import check_readable, rope_parameters, settings
from runner.data.models.gguf_header import GgufHeader, gguf_dtype, read_header
from runner.data.models.sentencepiece_model import write_sentencepiece
from runner.data.models.tokenizer import gguf_tokenizer
from runner.errors import StageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def write_gguf_model(file: Path, destination: Path, context: int | None = None) -> None:
    """Dequantize a GGUF file and save it with its tokenizer.

    Args:
        file: What to read.
        destination: Existing empty directory.
        context: Longest sequence, in tokens, instead of what the file says.

    Raises:
        StageError: It is of an architecture or has a tokenizer that is not read, or its tensors
            are not those of the architecture.
        UsageError: It is no GGUF file.
    """
    from transformers import GenerationConfig

    header = read_header(file)
    tokenizer = gguf_tokenizer(header)
    model = read_gguf_model(header, gguf_dtype(header, MADE_DTYPE))
    config = model.config
    name_special_tokens(tokenizer, config)
    length = context or header.of_architecture().get("context_length")
    if length:
        tokenizer.model_max_length = length
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=config.eos_token_id,
        pad_token_id=config.pad_token_id,
    )
    save(model, tokenizer, destination)
    write_sentencepiece(header, destination)


def read_gguf_model(header: GgufHeader, dtype: str) -> Any:
    """The transformers model that a GGUF file holds, in memory.

    Args:
        header: Of the file.
        dtype: Torch dtype name of the weights.

    Raises:
        StageError: A tensor of the file has no place in the model, or one of the model's is not
            in the file, or the file says of its architecture what transformers does not read.
    """
    import gguf
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import get_gguf_hf_weights_map

    check_readable(header)
    hf_config = settings(header)
    config = AutoConfig.for_model(**hf_config)
    config.rope_parameters = rope_parameters(header, config.rope_parameters)
    wanted = getattr(torch, dtype)
    model = AutoModelForCausalLM.from_config(config, dtype=wanted)
    processor = tensor_processor(header)
    # It lists all names anew for each module, which takes seconds.
    listed, gguf.get_tensor_name_map = (
        gguf.get_tensor_name_map,
        functools.cache(gguf.get_tensor_name_map),
    )
    try:
        places = get_gguf_hf_weights_map(model, processor)
    finally:
        gguf.get_tensor_name_map = listed
    stored = [name for name in header.tensors if name != "rope_freqs.weight"]
    if lost := [name for name in stored if name not in places]:
        raise _not_the_architecture(header, f"no place for its {_few(lost)}")
    tensors = {}
    for name in stored:
        weights = processor.process(weights=dequantized(header, name), name=name).weights
        tensors[places[name]] = torch.from_numpy(weights).to(wanted, copy=True)
    _fill(model, tensors, header)
    return model


def tensor_processor(header: GgufHeader) -> Any:
    """What brings an architecture's tensors into the order that transformers has them in."""
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor

    return TENSOR_PROCESSORS.get(header.architecture, TensorProcessor)(settings(header))


def dequantized(header: GgufHeader, name: str) -> "NDArray[np.float32]":
    """A tensor's values, in the file's order.

    Raises:
        StageError: The package ``gguf`` cannot dequantize its type.
    """
    import numpy as np
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    tensor = header.tensors[name]
    kind = GGMLQuantizationType(tensor.type)
    block, size = GGML_QUANT_SIZES[kind]
    *rows, width = tensor.shape
    count = math.prod(tensor.shape) // block * size
    raw = np.fromfile(header.path, np.uint8, count, offset=tensor.offset)
    try:
        values: NDArray[np.float32] = dequantize(raw.reshape(*rows, width // block * size), kind)
    except NotImplementedError:
        raise StageError(
            f"{header.path.name} contains {name} in {kind.name}, which cannot be dequantized"
        ) from None
    return np.ascontiguousarray(values)


def _fill(model: Any, tensors: dict[str, Any], header: GgufHeader) -> None:
    try:
        missing, unexpected = model.load_state_dict(tensors, strict=False, assign=True)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise _not_the_architecture(header, f"other shapes: {reason}") from None
    model.tie_weights()
    parameters = dict(model.named_parameters(remove_duplicate=False))
    read = {parameters[name].data_ptr() for name in tensors if name in parameters}
    missing = [n for n in missing if n not in parameters or parameters[n].data_ptr() not in read]
    if missing:
        raise _not_the_architecture(header, f"{_few(missing)}, which the file lacks")
    if unexpected:
        raise _not_the_architecture(header, f"no place for its {_few(unexpected)}")


def _not_the_architecture(header: GgufHeader, what: str) -> StageError:
    return StageError(
        f"{header.path.name} cannot be dequantized: transformers' {header.architecture} has {what}"
    )


def _few(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} others"


def name_special_tokens(tokenizer: Any, config: Any) -> None:
    """Give the tokenizer the bos, eos and pad tokens of the model's config."""
    for name in ("bos", "eos", "pad"):
        token = getattr(config, f"{name}_token_id", None)
        if token is not None:
            setattr(tokenizer, f"{name}_token", tokenizer.convert_ids_to_tokens(token))
