"""How quality is measured."""

from dataclasses import dataclass, field
from enum import Enum

from runner.config.text import Text


class PerplexityProtocol(Enum):
    """How perplexity is counted; numbers of different protocols do not compare."""

    gptq = "gptq"
    """Disjoint full windows of the joined text, first token of each unscored (arXiv 2210.17323);
    for Gemma, which is lost without it, that token is BOS."""
    llama_cpp = "llama_cpp"
    """As ``llama-perplexity``: only the second half of each window counts; where the tokenizer
    puts a BOS before a text, it replaces each window's first token."""
    lm_eval = "lm_eval"
    """As lm-evaluation-harness: rolling windows over each document, the first token scored after
    a prefix token, per word and per byte of the document's text."""


class EvalDtype(Enum):
    """Arithmetic of everything that a recipe leaves unquantized, where quality is measured."""

    auto = "auto"
    """float32 on a CPU, whatever its instructions, where the engine takes a type and memory
    allows; on a GPU the engine's own, with logits and softmax in float32 (``hf``)."""
    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"
    engine = "engine"
    """What ``engine.dtype`` says: as it is served."""


@dataclass
class Eval:
    """Perplexity, and divergence from the unquantized model, on the leading part of a text."""

    text: Text = field(default_factory=Text)
    protocols: list[PerplexityProtocol] = field(default_factory=lambda: [PerplexityProtocol.gptq])
    """The first is the headline, and the one whose tokens divergence is measured on."""
    context_length: int = 512
    """Tokens in a window; part of the metric's name."""
    windows: int = 16
    """Windows read from the start of the text; so much of it (times ``context_length``) is
    split into documents where a protocol goes by documents."""
    divergence: bool = True
    """Compare whole distributions with the unquantized model's: KL divergence, top-1 agreement,
    change of the right token's probability."""
    reference_max_bytes: int = 1_000_000_000
    """Most that the unquantized model's distributions may occupy in the store; where it does
    not suffice for all windows, the first that fit are compared."""
    dtype: EvalDtype = EvalDtype.auto
    """Arithmetic of ``eval`` and ``tasks``; figures of different arithmetic do not compare.
    ``engine`` is what is timed."""
    floor: bool = True
    """Where it is not float32: measure what the type alone does to the unquantized model, below
    which no recipes are told apart."""
    top_k: int = 20
    """Most likely tokens that are compared where an engine gives no more (vllm)."""

    def unread(self) -> dict[str, str]:
        """Fields that have no effect, each with the reason."""
        if self.divergence:
            return {}
        fields = ("reference_max_bytes", "top_k")
        return dict.fromkeys(fields, "compares no distributions (divergence=false)")
