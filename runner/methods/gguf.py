"""llama.cpp's block-wise number formats, written as a GGUF file."""

import re
import shutil
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Optional

from runner.config.schema.bits import Bits, NumberType
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method
from runner.data.models.gguf_file import MODEL_CONFIG
from runner.data.models.llama_cpp_families import conversion_refusal
from runner.data.models.weights import tensor_headers
from runner.errors import StageError
from runner.methods.backends import llama_cpp
from runner.methods.base import Capabilities, QuantizeJob
from runner.methods.recipe import Recipe


class QuantType(Enum):
    """A mix of number formats, by llama.cpp's name; K and IQ types have blocks of 256 weights."""

    Q8_0 = "Q8_0"
    Q6_K = "Q6_K"
    Q5_K_M = "Q5_K_M"
    Q5_K_S = "Q5_K_S"
    Q4_K_M = "Q4_K_M"
    Q4_K_S = "Q4_K_S"
    Q4_0 = "Q4_0"
    Q3_K_M = "Q3_K_M"
    Q3_K_S = "Q3_K_S"
    Q2_K = "Q2_K"
    IQ4_NL = "IQ4_NL"
    IQ4_XS = "IQ4_XS"
    F16 = "F16"
    BF16 = "BF16"


_BY_BITS = {
    8: QuantType.Q8_0,
    6: QuantType.Q6_K,
    5: QuantType.Q5_K_M,
    4: QuantType.Q4_K_M,
    3: QuantType.Q3_K_M,
    2: QuantType.Q2_K,
}


@dataclass
class Gguf(Method):
    """Knobs of llama.cpp's quantization."""

    backend: str = llama_cpp.NAME
    ignore: list[str] = field(default_factory=list)
    """llama.cpp's types have more bits for the output embedding; it need not be left out."""
    quant_type: Optional[QuantType] = None  # noqa: UP045 - OmegaConf reads Optional[...]
    """By default the medium type of ``bits``: Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q3_K_M, Q2_K."""
    imatrix: bool = False
    """Weigh rounding errors by the mean squares of inputs, measured on calibration text."""

    def rounds(self, bits: Bits) -> bool:
        """Two of the types are floats of 16 bits."""
        return type_for(self, bits) not in (QuantType.F16, QuantType.BF16)

    def scheme_label(self, bits: Bits, group_size: GroupSize) -> str:
        """The type, which has blocks of its own."""
        chosen = type_for(self, bits)
        return chosen.value if chosen else super().scheme_label(bits, group_size)

    def plan_label(self, bits: Bits, group_size: GroupSize) -> str | None:
        """The type."""
        chosen = type_for(self, bits)
        return chosen.value.lower() if chosen else super().plan_label(bits, group_size)

    def decides_width(self) -> tuple[str, int] | None:
        """A type that is named has a width of its own."""
        if self.quant_type is None:
            return None
        (width,) = re.findall(r"^[A-Z]+(\d+)", self.quant_type.value)
        return f"quant_type={self.quant_type.value}", int(width)


def type_for(method: Gguf, bits: Bits) -> QuantType | None:
    """The type asked for, or the one that follows from the bits; ``None`` without such a one."""
    if method.quant_type is not None or bits.weight.type is not NumberType.int:
        return method.quant_type
    return None if bits.quantizes_activations else _BY_BITS.get(bits.weight.num_bits)


class GgufMethod:
    """GGUF through llama.cpp."""

    config = Gguf
    mark = 4
    backends = {  # noqa: RUF012 - a protocol's property
        llama_cpp.NAME: Capabilities(
            bits=("w4a16", "w8a16", "w6a16", "w5a16", "w3a16", "w2a16"),
            # A type's blocks are its own; what is asked for is not looked at.
            group_sizes=("per_tensor", "per_channel", "g*"),
            checkpoint_format="gguf",
            packages=("llama-cpp-python", "gguf", "transformers"),
            holders=None,
            model_refusal=conversion_refusal,
            mixes_by_itself=True,
            rounds_in="float32",
            only_on_cpus=True,
        )
    }

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Only an importance matrix looks at text."""
        options = recipe.method
        assert isinstance(options, Gguf)
        return recipe.calibration if options.imatrix else None

    def quantize(self, job: QuantizeJob) -> None:
        """Convert without loss, find what matters, round."""
        options = job.recipe.method
        assert isinstance(options, Gguf)
        chosen = type_for(options, job.recipe.bits)
        assert chosen is not None
        job.progress(0, 1, "converting to GGUF")
        dense = job.scratch / "model.gguf"
        llama_cpp.convert(
            job.model_directory,
            dense,
            llama_cpp.lossless_type(job.model_directory),
            llama_cpp.converter(job.cache),
        )
        matrix = None
        if options.imatrix:
            matrix = llama_cpp.importance_matrix(
                job.model_directory,
                dense,
                job.windows,
                trust_remote_code=job.trust_remote_code,
                device=job.device,
                dtype=job.compute_dtype,
                progress=job.progress,
            )
        llama_cpp.quantize_file(
            dense,
            job.checkpoint_directory / f"model-{chosen.value}.gguf",
            chosen.value,
            threads=job.threads,
            matrix=matrix,
            keep=_kept(job.model_directory, dense, options.ignore),
            progress=job.progress,
        )
        dense.unlink()
        # A GGUF file says less than transformers has to know to read it.
        shutil.copyfile(
            job.model_directory / "config.json", job.checkpoint_directory / MODEL_CONFIG
        )


def _kept(model_directory: Path, dense: Path, ignored: list[str]) -> list[str]:
    """Tensors of the GGUF file that belong to the layers which are not to be quantized."""
    if not ignored:
        return []
    names = llama_cpp.tensor_names(dense, ["lm_head", *_modules(model_directory)])
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


METHOD = GgufMethod()
