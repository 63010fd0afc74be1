"""llama.cpp's block-wise number formats, written as a GGUF file."""

import re
import shutil
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Optional

from runner.config.schema.bits import Bits, NumberType
from runner.config.schema.calibration import Calibration
from runner.config.schema.group_size import GroupSize
from runner.config.schema.method import Method
from runner.data.models.gguf_file import MODEL_CONFIG
from runner.data.models.llama_cpp_families import conversion_refusal
from runner.methods.backends import llama_cpp
from runner.methods.backends.gguf_candidates import candidates_of, wrong_candidate
from runner.methods.backends.gguf_kept import kept_tensors
from runner.methods.backends.gguf_mixes import (
    FLOATS,
    NEED_IMPORTANCE,
    WHOLE,
    QuantType,
    chosen_types,
)
from runner.methods.backends.gguf_types import (
    NEEDS_IMPORTANCE,
    NOT_FOR_EMBEDDINGS,
    TensorType,
    TypeChoice,
)
from runner.methods.base import Capabilities, QuantizeJob
from runner.methods.recipe import Recipe

_BY_BITS = {
    8: QuantType.Q8_0,
    6: QuantType.Q6_K,
    5: QuantType.Q5_K_M,
    4: QuantType.Q4_K_M,
    3: QuantType.Q3_K_M,
    2: QuantType.Q2_K,
    1: QuantType.IQ1_M,
}


_CHOICES = ("quant_type", "tensor_types", "output_tensor_type", "token_embedding_type", "pure")


@dataclass
class Gguf(Method):
    """Knobs of llama.cpp's quantization."""

    backend: str = llama_cpp.NAME
    ignore: list[str] = field(default_factory=list)
    """llama.cpp's types have more bits for the output embedding; it need not be left out."""
    quant_type: Optional[QuantType] = None  # noqa: UP045 - OmegaConf reads Optional[...]
    """By default the medium type of ``bits``: Q8_0, Q6_K, Q5_K_M, Q4_K_M, Q3_K_M, Q2_K, IQ1_M."""
    imatrix: bool = False
    """Weigh rounding errors by the mean squares of inputs, measured on calibration text. Types of
    1 and 2 bits whose names begin with IQ, IQ3_XS, IQ3_XXS and Q2_K_S cannot do without."""
    tensor_types: dict[str, TensorType] = field(default_factory=dict)
    """Types of single tensors: a regular expression that is searched for in llama.cpp's names
    (``blk.0.ffn_down.weight``), and the type. The first that is found counts."""
    output_tensor_type: Optional[TensorType] = None  # noqa: UP045
    """Type of the output embedding, or of an input embedding that serves as one."""
    token_embedding_type: Optional[TensorType] = None  # noqa: UP045
    """Type of the input embedding."""
    pure: bool = False
    """Give all tensors one type, embeddings too, instead of the mix that llama.cpp makes."""

    def rounds(self, bits: Bits) -> bool:
        """Two of the types are floats of 16 bits."""
        return type_for(self, bits) not in FLOATS

    def scheme_label(self, bits: Bits, group_size: GroupSize) -> str:
        """The type, which has blocks of its own."""
        chosen = type_for(self, bits)
        if bits.is_auto:
            return bits.label
        return chosen.value if chosen else super().scheme_label(bits, group_size)

    def misfit(self, bits: Bits, group_size: GroupSize, device: str) -> tuple[str, str] | None:
        """A type that needs an importance matrix, or choices that have no effect."""
        if bits.is_auto:
            return self._budget_decides(bits)
        chosen = type_for(self, bits)
        if chosen is None:
            return None
        if (fault := _wrong_pattern(self.tensor_types)) is not None:
            return fault, "+method.tensor_types.ffn_down=Q8_0"
        return self._without_effect(chosen) or self._without_importance(chosen)

    def _budget_decides(self, bits: Bits) -> tuple[str, str] | None:
        """Choices of types beside a budget, which chooses them all."""
        default = Gguf(name=self.name)
        for option in _CHOICES:
            if getattr(self, option) != getattr(default, option):
                return (
                    f"bits={bits.label} chooses the type of every tensor, and method.{option} does "
                    "too; narrow bits.candidates instead",
                    "method.tensor_types={}"
                    if option == "tensor_types"
                    else f"method.{option}={'false' if option == 'pure' else 'null'}",
                )
        return wrong_candidate(bits, self.imatrix)

    def _without_effect(self, chosen: QuantType) -> tuple[str, str] | None:
        single = [self.output_tensor_type, self.token_embedding_type]
        if chosen in FLOATS and (self.tensor_types or any(single) or self.pure):
            return (
                f"method.quant_type={chosen.value} gives every tensor that type, so that "
                "method.tensor_types, output_tensor_type, token_embedding_type and pure have no "
                "effect",
                "method.quant_type=Q8_0",
            )
        if chosen in WHOLE and self.pure:
            return (
                f"method.quant_type={chosen.value} is one type for every layer and Q8_0 for "
                "embeddings: method.pure=true has no effect",
                "method.pure=false",
            )
        return None

    def _without_importance(self, chosen: QuantType) -> tuple[str, str] | None:
        for option in ("output_tensor_type", "token_embedding_type"):
            if (kind := getattr(self, option)) in NOT_FOR_EMBEDDINGS:
                return (
                    f"method.{option}={kind.value}: llama.cpp cannot make that type without an "
                    "importance matrix, which embeddings do not have",
                    f"method.{option}=Q2_K",
                )
        needy = [one.value for one in self.tensor_types.values() if one in NEEDS_IMPORTANCE]
        if self.imatrix or not (needy or chosen in NEED_IMPORTANCE):
            return None
        kind = needy[0] if needy else chosen.value
        return (
            f"llama.cpp makes {kind} with an importance matrix alone",
            "method.imatrix=true calibration=bible",
        )

    def plan_label(self, bits: Bits, group_size: GroupSize) -> str | None:
        """The type, and that some tensors have others than its mix, which plans do not know."""
        if bits.is_auto:
            return f"gguf_{bits.label}"
        chosen = type_for(self, bits)
        if chosen is None:
            return super().plan_label(bits, group_size)
        # Without the prefix these are what safetensors checkpoints have, with other embeddings.
        label = f"gguf_{chosen.value}" if chosen in WHOLE else chosen.value
        single = self.tensor_types or self.output_tensor_type or self.token_embedding_type
        return f"{label.lower()}{'+own' if single or self.pure else ''}"

    def decides_width(self) -> tuple[str, int] | None:
        """A type that is named has a width of its own."""
        if self.quant_type is None:
            return None
        (width,) = re.findall(r"^[A-Z]+(\d+)", self.quant_type.value)
        return f"quant_type={self.quant_type.value}", int(width)


def _wrong_pattern(patterns: Iterable[str]) -> str | None:
    """What is wrong with the first of some regular expressions that is none."""
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            return f"method.tensor_types: {pattern} is no regular expression ({error})"
    return None


def type_for(method: Gguf, bits: Bits) -> QuantType | None:
    """The type asked for, or the one that follows from the bits; ``None`` without such a one."""
    if bits.is_auto:
        return None
    if method.quant_type is not None or bits.weight.type is not NumberType.int:
        return method.quant_type
    return None if bits.quantizes_activations else _BY_BITS.get(bits.weight.num_bits)


def _layer_types(options: Method, bits: Bits, widths: Collection[int], mixture: bool) -> list[str]:
    assert isinstance(options, Gguf)
    return [one.value for one in candidates_of(bits, widths, options.imatrix, mixture)]


class GgufMethod:
    """GGUF through llama.cpp."""

    config = Gguf
    mark = 4
    backends = {  # noqa: RUF012 - a protocol's property
        llama_cpp.NAME: Capabilities(
            bits=("w4a16", "w8a16", "w6a16", "w5a16", "w3a16", "w2a16", "w1a16"),
            # A type's blocks are its own; what is asked for is not looked at.
            group_sizes=("per_tensor", "per_channel", "g*"),
            checkpoint_format="gguf",
            packages=("llama-cpp-python", "gguf", "transformers"),
            holders=None,
            model_refusal=conversion_refusal,
            starts_from_gguf=True,
            mixes_by_itself=True,
            rounds_in="float32",
            only_on_cpus=True,
            layer_types=_layer_types,
        )
    }

    def calibration_for(self, recipe: Recipe) -> Calibration | None:
        """Only an importance matrix looks at text."""
        options = recipe.method
        assert isinstance(options, Gguf)
        return recipe.calibration if options.imatrix else None

    def quantize(self, job: QuantizeJob) -> None:
        """Find what matters, round."""
        options = job.recipe.method
        assert isinstance(options, Gguf)
        types = _types(job.recipe)
        label = options.scheme_label(job.recipe.bits, job.recipe.group_size)
        dense = job.gguf
        assert dense is not None
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
            job.checkpoint_directory / f"model-{label}.gguf",
            types,
            threads=job.threads,
            matrix=matrix,
            keep=kept_tensors(job.model_directory, dense, options.ignore),
            progress=job.progress,
        )
        # A GGUF file says less than transformers has to know to read it.
        shutil.copyfile(
            job.model_directory / "config.json", job.checkpoint_directory / MODEL_CONFIG
        )


def _types(recipe: Recipe) -> TypeChoice:
    """What llama.cpp is asked for by a recipe."""
    options = recipe.method
    assert isinstance(options, Gguf)
    if recipe.layer_formats is not None:
        return chosen_types({name: TensorType(kind) for name, kind in recipe.layer_formats.items()})
    chosen = type_for(options, recipe.bits)
    assert chosen is not None
    return _choice(options, chosen)


def _choice(options: Gguf, chosen: QuantType) -> TypeChoice:
    """What llama.cpp is asked for."""
    patterns = dict(options.tensor_types)
    if (whole := WHOLE.get(chosen)) is not None:
        # llama.cpp has no such mix, but takes the type for tensors by pattern.
        return TypeChoice(
            QuantType.MXFP4_MOE.value,
            main=whole,
            patterns=patterns,
            others={r"^(token_embd|output)\.weight$": TensorType.Q8_0, r"\.weight$": whole},
            input_embedding=options.token_embedding_type,
            output_embedding=options.output_tensor_type,
        )
    return TypeChoice(
        chosen.value,
        # Of a model without experts that mix is Q8_0; other mixes fall back tensor by tensor.
        main=TensorType.MXFP4 if chosen is QuantType.MXFP4_MOE else None,
        pure=options.pure,
        patterns=patterns,
        input_embedding=options.token_embedding_type,
        output_embedding=options.output_tensor_type,
    )


METHOD = GgufMethod()
