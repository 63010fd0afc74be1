"""How quality is measured."""

from dataclasses import dataclass, field

from runner.config.text import Text


@dataclass
class Eval:
    """Perplexity by the GPTQ protocol: disjoint full windows, first token unscored."""

    text: Text = field(default_factory=Text)
    context_length: int = 512
    """Tokens in a window; part of the metric's name."""
    windows: int = 16
    """Windows read from the start of the text."""
