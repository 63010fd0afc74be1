"""How quality is measured."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Optional

from runner.config.bounds import BYTES, bounded
from runner.config.schema.floor import Variation
from runner.config.schema.text import Text
from runner.util.extensions import Kind, names


def _engines() -> tuple[str, ...]:
    return tuple(names(Kind.engine))


class PerplexityProtocol(Enum):
    """How perplexity is counted; numbers of different protocols do not compare."""

    spread = "spread"
    """Disjoint full windows, spread evenly over the text's documents; the first token of each is
    unscored."""
    gptq = "gptq"
    """As GPTQ's experiments (arXiv 2210.17323): disjoint full windows from the start of the
    joined text, the first token of each unscored."""
    llama_cpp = "llama_cpp"
    """As ``llama-perplexity``: only the second half of each window counts; where the tokenizer
    puts a BOS before a text, it replaces each window's first token."""
    lm_eval = "lm_eval"
    """As lm-evaluation-harness: rolling windows over each document, the first token scored after
    a prefix token, per word and per byte of the document's text."""

    @property
    def takes_bos(self) -> bool:
        """Whether ``eval.bos`` decides what its windows begin with; the others have a rule."""
        return self in (PerplexityProtocol.spread, PerplexityProtocol.gptq)

    @property
    def spreads(self) -> bool:
        """Whether its windows come from all over the text, not from the start of it."""
        return self is PerplexityProtocol.spread


class Bos(Enum):
    """Whether windows begin with the token that marks the beginning of a text."""

    auto = "auto"
    """Where the tokenizer puts it before a text."""
    always = "always"
    """Of every model; the tokenizer needs one."""
    never = "never"
    """As published: the text as it was cut, whatever the model was trained to expect."""


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
    """Perplexity, and divergence from the unquantized model, on windows of a text."""

    text: Text = field(default_factory=Text)
    protocols: list[PerplexityProtocol] = bounded(
        factory=lambda: [PerplexityProtocol.spread], filled=True
    )
    """Perplexity protocols. The first is the headline, and divergence is measured on its tokens."""
    bos: Bos = Bos.auto
    """Whether windows of protocols spread and gptq begin with BOS; the metric's name shows it
    (``perplexity/spread_bos_512``)."""
    context_length: int = bounded(512, least=2, why="one token has none before it")
    """Tokens in a window; part of the metric's name."""
    windows: int = bounded(16, least=2, why="one gives no interval")
    """Number of windows; protocol lm_eval reads as many tokens as they contain."""
    divergence: bool = True
    """Compare whole distributions with the unquantized model's: KL divergence, top-1 agreement,
    change of the actual token's probability."""
    reference_max_bytes: int = bounded(1_000_000_000, most=BYTES)
    """Maximum size of the unquantized model's distributions in the store; if it is too small for
    all windows, the first that fit are compared."""
    dtype: EvalDtype = EvalDtype.auto
    """Arithmetic of ``eval`` and ``tasks``; figures of different arithmetic are not comparable.
    ``engine`` is the type of bench and serving."""
    floor: list[Variation] = field(default_factory=lambda: [Variation.float32])
    """The noise floor: what changes when nothing is quantized, but the arithmetic is varied. The
    unquantized model is evaluated once more for each entry; recipes whose difference is no larger
    than the largest of these count as equal. By default it costs nothing in float32."""
    floor_engine: Optional[str] = bounded(None, choices=_engines)
    """Engine that entry ``engine`` of ``floor`` compares with, with its default settings."""
    top_k: int = bounded(20, least=1)
    """Number of most likely tokens to compare if an engine returns no more (vllm)."""

    def unread(self) -> dict[str, str]:
        """Fields that have no effect, each with the reason."""
        unread = {}
        if not any(protocol.takes_bos for protocol in self.protocols):
            named = ", ".join(protocol.value for protocol in self.protocols)
            unread["bos"] = f"protocols ({named}) have their own rule for BOS"
        if not self.divergence:
            fields = ("reference_max_bytes", "top_k")
            unread |= dict.fromkeys(fields, "compares no distributions (divergence=false)")
        if Variation.engine not in self.floor:
            unread["floor_engine"] = "varies no engine (eval.floor has no engine)"
        return unread
