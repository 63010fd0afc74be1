"""Models for lm-evaluation-harness, over checkpoints that the engines load."""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

from runner.data.models.read_tokenizer import read_tokenizer
from runner.data.texts.protocols import leading_bos
from runner.data.texts.vocabulary import Vocabulary
from runner.data.texts.windows import needs_bos, with_bos
from runner.engines import find_engine
from runner.engines.loading import LoadRequest, load, specification
from runner.engines.overflow import not_finite
from runner.engines.server.client import EngineProcess, TokenClient
from runner.engines.traits import HarnessModel
from runner.errors import StageError
from runner.evaluation.lm_eval.answers import Answers
from runner.evaluation.lm_eval.cut import prompts_cut
from runner.evaluation.lm_eval.generating import generating
from runner.evaluation.lm_eval.tokens import token_model

_LOG = "engine.log"
_ROLLING = "loglikelihood_rolling"
_GENERATE = "generate_until"
_ASKED = ("loglikelihood", _ROLLING, _GENERATE)


class Loader(Protocol):
    """A stage's process, which may have loaded the model already."""

    @property
    def output(self) -> Path:
        """Directory for logs."""

    @property
    def threads(self) -> int:
        """CPU threads."""

    def loaded(self, load: Callable[[], Any]) -> Any:
        """The model as it was loaded before, else what ``load`` returns."""


def open_model(
    request: LoadRequest,
    tokenizer: Path,
    batch_size: int,
    context: Loader,
    process: EngineProcess | None = None,
) -> Any:
    """A checkpoint as an ``lm_eval.api.model.LM`` that keeps ``Answers`` once it is given some.

    Engine ``hf`` hands over the model that it loads itself, so that every format it
    dequantizes can be asked; for vLLM the harness makes one with this engine's arguments; for
    others it asks ``process``.

    Args:
        request: The checkpoint and the engine.
        tokenizer: Directory of the unquantized model's tokenizer.
        batch_size: Requests computed together.
        context: The stage's: CPU threads, and whether the model has been loaded.
        process: How a process of the engine's environment is started; for an engine whose
            ``traits.harness_model`` is ``tokens``.
    """
    asked_by = find_engine(request.engine.name).traits.harness_model
    if asked_by is HarnessModel.vllm:
        return _vllm(request, tokenizer, batch_size, context.threads)
    if asked_by is HarnessModel.tokens:
        assert process is not None
        return _elsewhere(request, tokenizer, batch_size, context, process)
    from lm_eval.models.huggingface import HFLM

    loaded: Any = context.loaded(lambda: load(request, context.threads))
    made = remembering(generating(HFLM))(
        pretrained=loaded.model,
        tokenizer=read_tokenizer(tokenizer, request.trust_remote_code),
        batch_size=batch_size,
        trust_remote_code=request.trust_remote_code,
    )
    made.load_request = request
    made.arithmetic = loaded.arithmetic
    return with_tokenizer(made, made.tokenizer, tokenizer)


def _elsewhere(
    request: LoadRequest, tokenizer: Path, batch_size: int, context: Loader, process: EngineProcess
) -> Any:
    log = context.output / _LOG
    client: Any = context.loaded(lambda: TokenClient(process, request, context.threads, log))
    limit = request.engine.longest_sequence()
    kind, stand_in = token_model(tokenizer, request.trust_remote_code, limit[1] if limit else None)
    made = remembering(kind)(
        pretrained=stand_in,
        backend="causal",
        tokenizer=read_tokenizer(tokenizer, request.trust_remote_code),
        batch_size=batch_size,
    )
    made.load_request, made.tokens, made.arithmetic = request, client, client.arithmetic
    return with_tokenizer(made, made.tokenizer, tokenizer)


def _vllm(request: LoadRequest, tokenizer: Path, batch_size: int, threads: int) -> Any:
    import os

    from runner.engines.vllm import weights as vllm_weights
    from runner.engines.vllm.settings import engine_arguments, process_environment

    spec = specification(request, threads)
    os.environ.update(process_environment(spec))
    arguments = engine_arguments(spec)
    if spec.device == "cpu":
        vllm_weights.register_loader()
    from lm_eval.models.utils import configure_pad_token
    from lm_eval.models.vllm_causallms import VLLM

    # The harness needs vLLM's tokenizer for stop words, and leaves the length to vLLM by None.
    del arguments["skip_tokenizer_init"], arguments["model"]
    if arguments["max_model_len"] == -1:
        arguments["max_model_len"] = None
    made = remembering(VLLM)(
        pretrained=str(spec.checkpoint),
        tokenizer=str(tokenizer),
        batch_size=batch_size,
        **arguments,
    )
    made.load_request = request
    computed = made.model.llm_engine.vllm_config.model_config.dtype
    made.arithmetic = str(computed).removeprefix("torch.")
    # The one that vLLM reads follows the class's name where it differs from the files.
    read = read_tokenizer(tokenizer, request.trust_remote_code)
    return with_tokenizer(made, configure_pad_token(read, made._config), tokenizer)


def with_tokenizer(model: Any, tokenizer: Any, directory: Path) -> Any:
    """The model of the harness with a tokenizer, which puts BOS before each text that needs it.

    The harness leaves it to the tokenizer (its ``add_bos_token`` only turns the tokenizer's own way
    off and on) and puts no second one before what a chat template has begun. Families that are
    lost without get it although their tokenizer puts none.

    Args:
        model: Of ``remembering``.
        tokenizer: Read from ``directory``.
        directory: The unquantized model's.

    Raises:
        StageError: The model is lost without a BOS and its tokenizer cannot be had to put one.
    """
    bos = leading_bos(tokenizer)
    if bos is None and needs_bos(directory) and tokenizer.bos_token_id is not None:
        tokenizer.add_bos_token = True
        bos = leading_bos(tokenizer)
        if bos is None:
            raise StageError(
                "the model needs a BOS before each prompt, and its tokenizer adds none: "
                "add_bos_token=true in tokenizer_config.json"
            )
    model.tokenizer, model.leading_bos = tokenizer, bos
    model.vocabulary = Vocabulary(tokenizer, directory)
    return model


def remembering(kind: type[Any]) -> type[Any]:
    """A model of the harness that computes only what ``answers`` does not know yet.

    Where texts begin with BOS, it differs from the harness in two places. A text that is scored
    from its first token (``loglikelihood_rolling``) gets one, not the tokenizer's after the
    harness's own, which would score BOS after BOS. And what no longer begins with it, the further
    windows of such a text and prompts that were cut to the context's length, gets it in place of
    its first token.
    """

    def asked(name: str) -> Any:
        def ask(self: Any, requests: list[Any], *rest: Any, **options: Any) -> list[Any]:
            def compute(left: list[Any]) -> list[Any]:
                self.begins_itself = name == _ROLLING
                try:
                    found: list[Any] = getattr(kind, name)(self, left, *rest, **options)
                finally:
                    self.begins_itself = False
                if name != _GENERATE and any(map(_is_no_number, found)):
                    request: LoadRequest = self.load_request
                    what = "the model gives likelihoods"
                    raise not_finite(request.checkpoint, request.dtype, what, "eval.dtype")
                return found

            self.prompts_cut += prompts_cut(self, name, requests)
            return answers_of(self).complete(name, requests, compute)

        return ask

    def tokenize(self: Any, *arguments: Any, **options: Any) -> Any:
        ids = kind.tok_encode(self, *arguments, **options)
        if self.begins_itself and self.leading_bos is not None and ids[:1] == [self.leading_bos]:
            ids = ids[1:]
        flat = itertools.chain.from_iterable(ids) if ids and isinstance(ids[0], list) else ids
        self.vocabulary.require(flat, "a task's prompt")
        return ids

    def tokenize_batch(self: Any, *arguments: Any, **options: Any) -> Any:
        ids, mask = kind.tok_batch_encode(self, *arguments, **options)
        self.vocabulary.require(ids.flatten().tolist(), "a task's prompt")
        return ids, mask

    def see(self: Any, inps: Any, *arguments: Any, **options: Any) -> Any:
        return kind._model_call(self, _begun(inps, self.leading_bos), *arguments, **options)

    def go_on(self: Any, context: Any, *arguments: Any, **options: Any) -> Any:
        begun = _begun(context, self.leading_bos, self.tokenizer.pad_token_id)
        found = kind._model_generate(self, begun, *arguments, **options)
        answers_of(self).generated(found[:, context.shape[1] :].tolist())
        return found

    def see_lists(self: Any, requests: list[list[int]], *rest: Any, **options: Any) -> Any:
        if (bos := self.leading_bos) is not None:
            requests = [with_bos(window, bos) for window in requests]
        found = kind._model_generate(self, requests, *rest, **options)
        if options.get("generate"):
            answers_of(self).generated(answer.outputs[0].token_ids for answer in found)
        return found

    def write(self: Any, *arguments: Any, **options: Any) -> str:
        try:
            written: str = kind.apply_chat_template(self, *arguments, **options)
        # Whatever a template's expression raises; the harness has tried it without a system role.
        except Exception as error:
            said = " ".join(str(error).split())
            raise StageError(
                f"the model's chat template does not take a task's prompt ({said}); set "
                "tasks.apply_chat_template=false"
            ) from None
        return written

    own: dict[str, Any] = {name: asked(name) for name in _ASKED}
    own |= {"begins_itself": False, "leading_bos": None, "prompts_cut": 0}
    own |= {"tok_encode": tokenize, "apply_chat_template": write}
    if hasattr(kind, "tok_batch_encode"):
        own |= {"tok_batch_encode": tokenize_batch, "_model_call": see, "_model_generate": go_on}
    else:
        own["_model_generate"] = see_lists
    return type(f"Remembering{kind.__name__}", (kind,), own)


def _begun(ids: Any, bos: int | None, padding: int = -1) -> Any:
    """Rows of token ids, each but those that begin with padding with BOS as its first token."""
    if bos is not None:
        ids = ids.clone()
        ids[ids[:, 0] != padding, 0] = bos
    return ids


def _is_no_number(answer: Any) -> bool:
    """Of a log-likelihood, alone or with whether the answer is the likeliest."""
    likelihood = answer[0] if isinstance(answer, (tuple, list)) else answer
    return math.isnan(likelihood)


def answers_of(model: Any) -> Answers:
    """What keeps a model's answers."""
    answers: Answers = model.cache_hook
    return answers


def keep_answers(model: Any, answers: Answers) -> None:
    """Have a model's answers kept, and those that are known not computed."""
    model.set_cache_hook(answers)
