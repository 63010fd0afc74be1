"""Mixes of block types that llama.cpp quantizes whole files to, as plans count them."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mix:
    """Stored bits of a weight by the part of the model, scales included."""

    label: str
    blocks: float
    """Mean over the linear layers of a model whose widths are multiples of 256."""
    head: float
    embedding: float
    fallback: float
    """Of layers whose inputs are no multiple of 256 (``tensor_type_fallback``)."""


# Means follow from llama.cpp's whole-file bits of Llama-3.1-8B (its quantize README), less head and
# embedding as ``llama_tensor_get_type_impl`` gives them (commit 0c1e570); types without a row there
# are one type for every layer. Other models' shares of the wider types differ by a few per cent.
MIXES = (
    Mix("q8_0", 8.5, 8.5, 8.5, 8.5),
    Mix("q6_k", 6.5625, 6.5625, 6.5625, 8.5),
    Mix("q5_k_m", 5.654, 6.5625, 5.5, 6.19),
    Mix("q5_k_s", 5.501, 6.5625, 5.5, 6.0),
    Mix("q5_1", 6.0, 6.5625, 6.0, 6.0),
    Mix("q5_0", 5.5, 6.5625, 5.5, 5.5),
    Mix("q4_k_m", 4.799, 6.5625, 4.5, 5.94),
    Mix("q4_k_s", 4.537, 6.5625, 4.5, 5.53),
    Mix("q4_1", 5.0, 6.5625, 5.0, 5.0),
    Mix("q4_0", 4.5, 6.5625, 4.5, 4.5),
    Mix("iq4_nl", 4.554, 6.5625, 4.5, 4.56),
    Mix("iq4_xs", 4.317, 6.5625, 4.25, 4.56),
    # No mixes of llama.cpp's: the runner gives every layer the type, and embeddings Q8_0. The names
    # without ``gguf_`` are those of safetensors checkpoints, which vLLM reads.
    Mix("gguf_nvfp4", 4.5, 8.5, 8.5, 4.5),
    Mix("gguf_mxfp4", 4.25, 8.5, 8.5, 4.25),
    Mix("q3_k_l", 4.192, 6.5625, 3.4375, 5.3),
    Mix("q3_k_m", 3.845, 6.5625, 3.4375, 5.0),
    Mix("q3_k_s", 3.439, 6.5625, 3.4375, 4.5),
    Mix("iq3_m", 3.577, 6.5625, 3.4375, 4.7),
    Mix("iq3_s", 3.459, 6.5625, 3.4375, 4.56),
    Mix("iq3_xs", 3.272, 6.5625, 3.4375, 4.56),
    Mix("iq3_xxs", 3.072, 5.5, 3.4375, 4.56),
    Mix("iq2_m", 2.698, 5.5, 3.4375, 4.56),
    Mix("iq2_s", 2.48, 5.5, 3.4375, 4.56),
    Mix("iq2_xs", 2.366, 5.5, 2.625, 4.56),
    Mix("iq2_xxs", 2.129, 5.5, 2.625, 4.56),
    Mix("tq2_0", 2.0625, 6.5625, 4.5, 4.5),
    Mix("iq1_m", 1.857, 5.5, 2.625, 4.56),
    Mix("tq1_0", 1.6875, 6.5625, 4.5, 4.5),
    Mix("iq1_s", 1.694, 5.5, 2.625, 4.56),
    Mix("q2_k_s", 2.725, 6.5625, 2.625, 4.5),
    Mix("q2_k", 2.943, 6.5625, 2.625, 4.5),
)
