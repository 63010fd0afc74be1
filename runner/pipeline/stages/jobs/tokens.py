"""Stage ``tokens``: check early that a text has enough tokens for an evaluation."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.config.schema.eval import Bos, Eval, PerplexityProtocol
from runner.data.texts.degenerate import LEFT_OUT
from runner.data.texts.protocols import Excerpt, protocol_text
from runner.data.texts.windows import needs_bos
from runner.pipeline.stages.base import TRANSFORMERS, Cost, Stage, StageContext
from runner.pipeline.stages.jobs.text import TextResult

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.checkpoint import Checkpoint
    from runner.pipeline.inputs import Inputs
    from runner.pipeline.stage_job import StageResult


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


class TokensStage(Stage[TokensRequest, TokensResult]):
    """Cuts texts and throws the windows away: it takes a second, a model takes minutes."""

    name = "tokens"
    schema_version = 2
    request = TokensRequest
    result = TokensResult
    runs_beside = True

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Text is tokenized."""
        return Cost(seconds=2.0)

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


def require_tokens(inputs: "Inputs", model: "Checkpoint") -> None:
    """See that the evaluation text suffices, before anything heavy is done, and tell of it.

    Raises:
        WorkerFailed: It is too short.
    """
    eval_ = inputs.config.eval
    text = inputs.text(eval_.text)
    environment = inputs.environment(TRANSFORMERS)
    request = TokensRequest(excerpt_of(inputs, model, text), eval_.protocols)
    determinants = {
        "tokenizer": model.identity,
        "text": text.address.key,
        **cut_determinants(eval_),
        "versions": environment.versions(("transformers", "tokenizers")),
    }
    title = f"tokens of {eval_.text.name}"
    cut = inputs.obtain(STAGE, request, environment, title=title, determinants=determinants)
    _tell(inputs, cut.known or TokensResult({}, {}), model)


def _tell(inputs: "Inputs", found: TokensResult, model: "Checkpoint") -> None:
    """What is odd about the windows."""
    for name, count in found.left_out.items():
        if count:
            inputs.mention(f"{name}: {count} windows skipped, with {LEFT_OUT}")
    for name, count in found.degenerate.items():
        if count:
            inputs.warn(
                f"{name}: {count} of {found.windows[name]} windows have {LEFT_OUT}; they are "
                "scored because the published protocol does; protocol spread skips them"
            )
    eval_ = inputs.config.eval
    without = eval_.bos is Bos.never and any(p.takes_bos for p in eval_.protocols)
    if without and needs_bos(model.directory):
        inputs.warn(
            f"{inputs.config.model.name} belongs to a family that fails without a BOS, and "
            "eval.bos=never scores windows without it; set eval.bos=auto"
        )


def cut_determinants(eval_: Eval) -> dict[str, Any]:
    """What of an evaluation decides which tokens of a text are looked at."""
    return {
        "context_length": eval_.context_length,
        "windows": eval_.windows,
        "protocols": [protocol.value for protocol in eval_.protocols],
        "bos": eval_.bos.value,
    }


def excerpt_of(inputs: "Inputs", model: "Checkpoint", text: "StageResult[TextResult]") -> Excerpt:
    """What of a text is evaluated, in the unquantized model's tokens."""
    return Excerpt(
        text_directory=text.directory,
        tokenizer_directory=model.directory,
        length=inputs.config.eval.context_length,
        count=inputs.config.eval.windows,
        trust_remote_code=inputs.config.model.trust_remote_code,
        bos=inputs.config.eval.bos,
    )
