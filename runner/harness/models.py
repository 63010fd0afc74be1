"""The models of lm-evaluation-harness, over checkpoints as our engines load them."""

from pathlib import Path
from typing import Any

from runner.engines import find_engine
from runner.engines.loading import LoadRequest, load, specification
from runner.harness.answers import Answers
from runner.worker.job import StageContext

_ASKED = ("loglikelihood", "loglikelihood_rolling", "generate_until")


def open_model(
    request: LoadRequest, tokenizer: Path, batch_size: int, context: StageContext
) -> Any:
    """A checkpoint as an ``lm_eval.api.model.LM`` that keeps ``Answers`` once it is given some.

    Engine ``hf`` hands over the model that it loads itself, so that every format it
    dequantizes can be asked; for vLLM the harness makes one with this engine's arguments.

    Args:
        request: The checkpoint and the engine.
        tokenizer: Directory of the unquantized model's tokenizer.
        batch_size: Requests computed together.
        context: The stage's: CPU threads, and whether the model has been loaded.
    """
    if find_engine(request.engine["name"]).harness_model == "vllm":
        return _vllm(request, tokenizer, batch_size, context.threads)
    from lm_eval.models.huggingface import HFLM

    loaded: Any = context.loaded(lambda: load(request, context.threads))
    return _remembering(HFLM)(
        pretrained=loaded.model,
        tokenizer=str(tokenizer),
        batch_size=batch_size,
        trust_remote_code=request.trust_remote_code,
    )


def _vllm(request: LoadRequest, tokenizer: Path, batch_size: int, threads: int) -> Any:
    import os

    from runner.backends import vllm_weights
    from runner.backends.vllm_settings import engine_arguments, process_environment

    spec = specification(request, threads)
    os.environ.update(process_environment(spec))
    arguments = engine_arguments(spec)
    if spec.device == "cpu":
        vllm_weights.register_loader()
    from lm_eval.models.vllm_causallms import VLLM

    # The harness needs vLLM's tokenizer for stop words, and leaves the length to vLLM by None.
    del arguments["skip_tokenizer_init"], arguments["model"]
    if arguments["max_model_len"] == -1:
        arguments["max_model_len"] = None
    return _remembering(VLLM)(
        pretrained=str(spec.checkpoint),
        tokenizer=str(tokenizer),
        batch_size=batch_size,
        **arguments,
    )


def _remembering(kind: type[Any]) -> type[Any]:
    """A model of the harness that computes only what ``answers`` does not know yet."""

    def asked(name: str) -> Any:
        def ask(self: Any, requests: list[Any], *rest: Any, **options: Any) -> list[Any]:
            def compute(left: list[Any]) -> list[Any]:
                found: list[Any] = getattr(kind, name)(self, left, *rest, **options)
                return found

            return answers_of(self).complete(name, requests, compute)

        return ask

    return type(f"Remembering{kind.__name__}", (kind,), {name: asked(name) for name in _ASKED})


def answers_of(model: Any) -> Answers:
    """What keeps a model's answers."""
    answers: Answers = model.cache_hook
    return answers


def keep_answers(model: Any, answers: Answers) -> None:
    """Have a model's answers kept, and those that are known not computed."""
    model.set_cache_hook(answers)
