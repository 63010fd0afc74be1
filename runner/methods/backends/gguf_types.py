"""Types of a GGUF file's tensors: which are asked for, and whether llama.cpp wrote them."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from runner.errors import StageError

_INPUT_EMBEDDING, _OUTPUT_EMBEDDING = "token_embd.weight", "output.weight"
_SHOWN = 3


class TensorType(Enum):
    """One number format, by the name that ``llama-quantize --tensor-type`` takes.

    Left out are Q2_0, which the package ``gguf`` cannot read, and Q1_0, which it cannot dequantize.
    """

    F32 = "F32"
    F16 = "F16"
    BF16 = "BF16"
    Q8_0 = "Q8_0"
    Q6_K = "Q6_K"
    Q5_K = "Q5_K"
    Q5_1 = "Q5_1"
    Q5_0 = "Q5_0"
    Q4_K = "Q4_K"
    Q4_1 = "Q4_1"
    Q4_0 = "Q4_0"
    IQ4_NL = "IQ4_NL"
    IQ4_XS = "IQ4_XS"
    MXFP4 = "MXFP4"
    NVFP4 = "NVFP4"
    Q3_K = "Q3_K"
    IQ3_S = "IQ3_S"
    IQ3_XXS = "IQ3_XXS"
    Q2_K = "Q2_K"
    TQ2_0 = "TQ2_0"
    IQ2_S = "IQ2_S"
    IQ2_XS = "IQ2_XS"
    IQ2_XXS = "IQ2_XXS"
    TQ1_0 = "TQ1_0"
    IQ1_M = "IQ1_M"
    IQ1_S = "IQ1_S"


NEEDS_IMPORTANCE = frozenset(
    {
        TensorType.IQ3_XXS,
        TensorType.IQ2_S,
        TensorType.IQ2_XS,
        TensorType.IQ2_XXS,
        TensorType.IQ1_M,
        TensorType.IQ1_S,
    }
)
"""Types that llama.cpp makes with an importance matrix alone (``tensor_requires_imatrix``)."""


NOT_FOR_EMBEDDINGS = frozenset({TensorType.IQ2_XS, TensorType.IQ2_XXS, TensorType.IQ1_S})
"""Types whose code ends the process without an importance matrix; embeddings have none."""


@dataclass(frozen=True)
class TypeChoice:
    """Which types a file's tensors are to have."""

    file_type: str
    """llama.cpp's name of the mix: ``Q4_K_M``."""
    main: TensorType | None = None
    """The type that the mix is named after, of which some tensor has to be. ``None``: not looked
    at."""
    pure: bool = False
    patterns: dict[str, TensorType] = field(default_factory=dict)
    """By a regular expression that is searched for in names; the first that is found counts."""
    others: dict[str, TensorType] = field(default_factory=dict)
    """The same for what is left by all that is asked for: not looked at afterwards."""
    input_embedding: TensorType | None = None
    output_embedding: TensorType | None = None

    def check_source(self, tensors: Iterable[Any]) -> None:
        """Refuse what cannot have an effect on a file's tensors.

        Args:
            tensors: ``gguf.ReaderTensor`` of the unquantized file.

        Raises:
            StageError: A pattern is found in no name of a matrix, a width is no multiple of what
                a type needs, or embeddings cannot have the type.
        """
        from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

        matrices = {one.name: int(one.shape[0]) for one in tensors if len(one.shape) > 1}
        for pattern, wanted in self._asked_for():
            found = self._named(pattern, matrices)
            if not found:
                near = ", ".join([*matrices][:_SHOWN])
                raise StageError(
                    f"{self._setting(pattern)}: no tensor that is left to it has such a name; "
                    f"names are {near} and so on"
                )
            if wanted in NOT_FOR_EMBEDDINGS and {*found} & {_INPUT_EMBEDDING, _OUTPUT_EMBEDDING}:
                raise StageError(
                    f"{self._setting(pattern)}: no importance matrix has embeddings, and without "
                    f"one llama.cpp cannot make {wanted.value}; choose IQ2_S, IQ1_M or Q2_K there"
                )
            block, _ = GGML_QUANT_SIZES[GGMLQuantizationType[wanted.value]]
            if not any(matrices[name] % block == 0 for name in found):
                widths = sorted({matrices[name] for name in found})
                raise StageError(
                    f"{self._setting(pattern)}: {wanted.value} has blocks of {block} weights, "
                    f"which do not fit rows of {', '.join(map(str, widths))}; choose a type with "
                    "blocks of 32, such as Q8_0, Q5_0, IQ4_NL or Q4_0"
                )

    def check_written(self, tensors: Iterable[Any]) -> list[str]:
        """Hold what was written against what was asked for.

        Args:
            tensors: ``gguf.ReaderTensor`` of the quantized file.

        Returns:
            Sentences on tensors that have another type, since their rows do not fit its blocks.

        Raises:
            StageError: A choice had no effect on any tensor, or none has the type that the mix is
                named after.
        """
        types = {one.name: one.tensor_type.name for one in tensors if len(one.shape) > 1}
        if self.main and self.main.value not in types.values():
            raise StageError(
                f"llama.cpp wrote no tensor as {self.main.value}, after which {self.file_type} is "
                f"named, but {_listed(types.values())}: rows do not fit its blocks, or it is for "
                "experts alone; choose another quant_type"
            )
        notes = []
        for pattern, wanted in self._asked_for():
            found = self._named(pattern, types)
            others = [name for name in found if types[name] != wanted.value]
            if len(others) == len(found):
                raise StageError(
                    f"{self._setting(pattern)} had no effect: llama.cpp wrote "
                    f"{_listed(types[name] for name in found)}"
                )
            if others:
                notes.append(
                    f"{len(others)} of {len(found)} tensors of {self._setting(pattern)} are "
                    f"{_listed(types[name] for name in others)} instead of {wanted.value}"
                )
        return notes

    def _asked_for(self) -> list[tuple[str, TensorType]]:
        asked = [*self.patterns.items()]
        if self.input_embedding:
            asked.append((_INPUT_EMBEDDING, self.input_embedding))
        if self.output_embedding:
            asked.append((_OUTPUT_EMBEDDING, self.output_embedding))
        return asked

    def _named(self, pattern: str, names: Iterable[str]) -> list[str]:
        """Names of tensors that a choice decides on."""
        names = [*names]
        if pattern == _OUTPUT_EMBEDDING and pattern not in self.patterns:
            # A head that shares the input embedding is that tensor.
            return [n for n in names if n == pattern] or [n for n in names if n == _INPUT_EMBEDDING]
        if pattern == _INPUT_EMBEDDING and pattern not in self.patterns:
            return [n for n in names if n == pattern]
        taken = {_INPUT_EMBEDDING: self.input_embedding, _OUTPUT_EMBEDDING: self.output_embedding}
        earlier = [*self.patterns][: [*self.patterns].index(pattern)]
        return [
            name
            for name in names
            if re.search(pattern, name)
            and not taken.get(name)
            and not any(re.search(one, name) for one in earlier)
        ]

    def _setting(self, pattern: str) -> str:
        if pattern in self.patterns:
            return f"method.tensor_types: {pattern}: {self.patterns[pattern].value}"
        if pattern == _INPUT_EMBEDDING and self.input_embedding:
            return f"method.token_embedding_type={self.input_embedding.value}"
        assert self.output_embedding
        return f"method.output_tensor_type={self.output_embedding.value}"


def _listed(types: Iterable[str]) -> str:
    return ", ".join(sorted({*types}))
