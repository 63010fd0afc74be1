"""Gives the experts that llm-compressor splits the names that other libraries read.

llm-compressor takes transformers' fused experts apart into linear layers of its own, which it
saves by its own names. A checkpoint counts only if transformers finds every tensor of it again:
where it could not, the recipe is refused before any weight is read.
"""

import json
import re
from pathlib import Path
from typing import Any

from runner.errors import Refused
from runner.methods.base import QuantizeJob
from runner.methods.holders import skeleton

_ELSEWHERE = "method=gguf, or a smaller share with method=bnb_4bit, which leaves experts dense"


def expert_names(job: QuantizeJob, modifiers: list[Any]) -> dict[str, str]:
    """How experts' layers have to be called in the checkpoint, by llm-compressor's names.

    Empty without fused experts.

    Args:
        job: The work; its model is built without weights.
        modifiers: llm-compressor's, whose schemes say how experts would be packed.

    Raises:
        Refused: Nobody could read the experts back.
    """
    from llmcompressor.modeling.moe.linearize import get_non_linearized_moes

    model = skeleton(job.model_directory, job.trust_remote_code)
    fused = [module for _, module in get_non_linearized_moes(model)]
    if not fused:
        return {}
    kind = type(fused[0]).__name__
    names = stored_names(model)
    if not names:
        raise Refused(
            f"transformers reads the experts of {type(model).__name__} ({kind}) from fused "
            f"tensors only, a form that llm-compressor does not pack; try {_ELSEWHERE}"
        )
    _require_readable(kind, modifiers)
    return names


def rename_experts(checkpoint: Path, names: dict[str, str]) -> dict[str, str]:
    """New names of a checkpoint's tensors, by the old ones; index and ``ignore`` are rewritten.

    Args:
        checkpoint: Directory of safetensors files.
        names: Of ``expert_names``.
    """
    if all(old == new for old, new in names.items()):
        return {}
    from safetensors import safe_open

    expert_name = re.compile(r"(\.experts\.\d+\.)(" + "|".join(names) + r")\.")
    renamed: dict[str, str] = {}
    for path in checkpoint.glob("*.safetensors"):
        with safe_open(path, framework="np") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a mapping
                renamed[name] = expert_name.sub(lambda m: f"{m[1]}{names[m[2]]}.", name)
    config = json.loads((checkpoint / "config.json").read_text("utf-8"))
    scheme = config["quantization_config"]
    scheme["ignore"] = [
        expert_name.sub(lambda m: f"{m[1]}{names[m[2]]}.", f"{one}.").removesuffix(".")
        for one in scheme["ignore"]
    ]
    (checkpoint / "config.json").write_text(json.dumps(config, indent=2) + "\n", "utf-8")
    index = checkpoint / "model.safetensors.index.json"
    if index.exists():
        content = json.loads(index.read_text("utf-8"))
        places = content["weight_map"].items()
        content["weight_map"] = {renamed.get(name, name): file for name, file in places}
        index.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    return renamed


def stored_names(model: Any) -> dict[str, str]:
    """An expert's layers as transformers reads them one by one; empty where it does not."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter

    names: dict[str, str] = {}
    for conversion in get_model_conversion_mapping(model):
        sources = [str(source) for source in conversion.source_patterns]
        if not isinstance(conversion, WeightConverter) or not all("experts" in s for s in sources):
            continue
        leaves = [re.fullmatch(r".*experts\.?\*\.(\w+)\.weight\$?", source) for source in sources]
        target = str(conversion.target_patterns[0])
        fused = next((p for p in ("gate_up_proj", "up_proj", "down_proj") if p in target), None)
        if fused is None or not all(leaves):
            continue
        own = ("gate_proj", "up_proj") if fused == "gate_up_proj" else (fused,)
        if len(own) == len(leaves):
            pairs = zip(own, leaves, strict=True)
            names |= {name: leaf[1] for name, leaf in pairs if leaf is not None}
    return names if {"up_proj", "down_proj"} <= names.keys() else {}


def _require_readable(kind: str, modifiers: list[Any]) -> None:
    """Refuse number formats of experts that transformers 5 does not unpack."""
    for modifier in modifiers:
        for scheme in (getattr(modifier, "config_groups", None) or {}).values():
            weights = scheme.weights
            # transformers 5.17 decompresses experts of 8-bit floats whose scales are whole rows' or
            # the matrix's; of blocks and of MXFP8 it finds no weights that fit the model.
            whole = weights.strategy in ("channel", "tensor")
            is_float8 = weights.type == "float" and weights.num_bits == 8 and whole
            is_packed = weights.type == "int" and scheme.input_activations is None
            if not is_float8 and not is_packed:
                what = f"{weights.num_bits}-bit {weights.type} experts"
                if weights.type == "int":
                    what += " with quantized activations"
                elif not whole:
                    what += " in blocks"
                raise Refused(
                    f"transformers does not read {what} of {kind} back; try "
                    "bits=w4a16 or bits=fp8_e4m3 with method=rtn, or method=gguf"
                )
            if not weights.symmetric:
                raise Refused(
                    f"transformers does not read experts of {kind} back that have zero points; "
                    "try method.zero_point=false (awq), method.sym=true"
                )
