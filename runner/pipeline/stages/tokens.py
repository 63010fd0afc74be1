"""Stage ``tokens``: whether a text has the tokens that an evaluation wants, found out early."""

from dataclasses import dataclass, field

from runner.config.schema.eval import PerplexityProtocol
from runner.data.texts.protocols import Excerpt, protocol_text
from runner.pipeline.worker.job import StageContext


@dataclass
class TokensRequest:
    """What an evaluation is going to cut."""

    excerpt: Excerpt
    protocols: list[PerplexityProtocol]


@dataclass
class TokensResult:
    """What each protocol scores, by its name."""

    windows: dict[str, int]
    tokens_scored: dict[str, int]
    left_out: dict[str, int] = field(default_factory=dict)
    """Windows of almost no distinct tokens that were passed over."""
    degenerate: dict[str, int] = field(default_factory=dict)
    """Such windows that are scored all the same, since the protocol is a published one."""


class TokensStage:
    """Cuts texts and throws the windows away: it takes a second, a model takes minutes."""

    name = "tokens"
    schema_version = 2
    request = TokensRequest
    result = TokensResult

    def run(self, request: TokensRequest, context: StageContext) -> TokensResult:
        """Tokenize.

        Raises:
            StageError: The text is too short.
        """
        context.progress(0, 1, "tokenizing the text")
        texts = [protocol_text(protocol, request.excerpt) for protocol in request.protocols]
        return TokensResult(
            windows={text.name: len(text.windows) for text in texts},
            tokens_scored={text.name: sum(w.scored for w in text.windows) for text in texts},
            left_out={text.name: text.sample.left_out for text in texts},
            degenerate={text.name: text.degenerate for text in texts},
        )


STAGE = TokensStage()
