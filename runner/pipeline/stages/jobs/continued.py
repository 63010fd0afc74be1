"""Stage ``continued``: a text that the unquantized model writes itself.

Of each document of a text it reads the beginning and goes on greedily. What a recipe changes
of that is what it changes of the model's own answers, and no other text is as much in its domain.
"""

import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema.text import Text, TextKind
from runner.data.texts.documents import (
    DOCUMENTS_FILE,
    Document,
    load_placed,
    plain,
    write_documents,
    write_places,
)
from runner.data.texts.protocols import begin_of_windows
from runner.data.texts.spread import encode_plain
from runner.data.texts.windows import bos_determinant, tokenizer_of
from runner.engines import reader_of
from runner.engines.loading import LoadRequest, load
from runner.errors import Refused, StageError
from runner.pipeline.stages.base import Cost, Stage, StageContext
from runner.pipeline.stages.jobs.model import locate_model
from runner.pipeline.stages.jobs.text import STAGE as TEXT
from runner.pipeline.stages.jobs.text import TextResult
from runner.planning.arithmetic import FLOAT32
from runner.planning.model_facts import model_facts
from runner.store.inventory import Retention
from runner.store.partial_results import PartialResults

if TYPE_CHECKING:
    from runner.config.schema.root import Config
    from runner.pipeline.inputs import Inputs
    from runner.pipeline.stage_job import StageResult

BEGINNING_TOKENS = 32
"""Of each document, to be gone on with; documents that have no more are left out."""
CONTINUED_TOKENS = 96
"""Most tokens that are written after them: longer greedy text of small models repeats itself."""
_FORMAT = "float"
_REPLACEMENT = "\ufffd"
"""What decoders write for bytes that are no character."""
_AT_ONCE = 16
_USUAL_DOCUMENTS = 80


@dataclass
class ContinuedRequest:
    """Which model goes on with which text."""

    load: LoadRequest
    tokenizer_directory: Path
    text_directory: Path
    beginning_tokens: int
    continued_tokens: int


class ContinuedStage(Stage[ContinuedRequest, TextResult]):
    """Writes text."""

    name = "continued"
    schema_version = 1
    request = ContinuedRequest
    result = TextResult
    retention = Retention.shared_input

    def obtain_text(self, inputs: "Inputs", text: Text) -> "StageResult[TextResult]":
        """The text's documents, as the run's unquantized model writes them.

        Raises:
            Refused: The model came quantized.
        """
        from runner.pipeline.inputs import engine_determinants, engine_versions

        model = locate_model(inputs)
        if model.format != _FORMAT:
            raise Refused(
                f"text {text.name} is written by the unquantized model, and "
                f"{inputs.config.model.name} is quantized: text@eval.text=wikipedia"
            )
        read = TEXT.obtain_text(inputs, replace(text, kind=TextKind.package))
        engine = reader_of(_FORMAT)
        environment = inputs.environment(engine.name)
        # Whatever the run's engine and arithmetic, so that all of a sweep's runs read one text.
        parameters = model_facts(inputs.config.model).parameters
        wide = inputs.compute.device == "cpu" and inputs.compute.holds_float32(parameters)
        loaded = inputs.load(model, engine, FLOAT32 if wide else model.dtype)
        request = ContinuedRequest(
            load=loaded,
            tokenizer_directory=model.directory,
            text_directory=read.directory,
            beginning_tokens=BEGINNING_TOKENS,
            continued_tokens=CONTINUED_TOKENS,
        )
        determinants = {
            "subject": model.identity,
            "text": read.address.key,
            "tokens": [request.beginning_tokens, request.continued_tokens],
            **engine_determinants(loaded),
            **bos_determinant(model.directory),
            "versions": engine_versions(environment, engine.name, "tokenizers"),
        }
        return inputs.obtain(
            self, request, environment,
            title=f"text {text.name}", determinants=determinants, shared=model,
        )  # fmt: skip

    def cost(self, config: "Config", on_gpu: bool) -> Cost:
        """Some batches are generated."""
        documents = config.eval.text.documents or _USUAL_DOCUMENTS
        return Cost(
            tokens=documents * BEGINNING_TOKENS,
            decoded_tokens=documents / _AT_ONCE * CONTINUED_TOKENS,
        )

    def run(self, request: ContinuedRequest, context: StageContext) -> TextResult:
        """Generate, batch by batch; a killed attempt goes on with the next one.

        Raises:
            StageError: No document is long enough.
        """
        placed = load_placed(request.text_directory)
        tokenizer = tokenizer_of(request.tokenizer_directory, request.load.trust_remote_code)
        wanted = request.beginning_tokens
        begun = [
            (ids[:wanted], f"what follows the beginning of {place}")
            for document, place in placed
            if len(ids := encode_plain(tokenizer, plain(document))) > wanted
            # Half a character is no text to go on with.
            and _REPLACEMENT not in tokenizer.decode(ids[:wanted])
        ]
        if not begun:
            raise StageError(f"no document of the text has more than {wanted} tokens")
        context.progress(0, len(begun), "loading the model")
        loaded: Any = context.loaded(lambda: load(request.load, context.threads))
        generate = _generator(loaded.model, tokenizer, request)
        partial = PartialResults(context.partial)
        documents: list[Document] = []
        for start in range(0, len(begun), _AT_ONCE):
            batch = [ids for ids, _ in begun[start : start + _AT_ONCE]]
            documents += partial.value(f"{start}", functools.partial(generate, batch))
            context.progress(len(documents), len(begun), "writing text")
        write_documents(context.output, documents)
        write_places(context.output, [place for _, place in begun])
        return TextResult(
            documents=len(documents),
            characters=sum(len(plain(document)) for document in documents),
            sha256=hashlib.sha256((context.output / DOCUMENTS_FILE).read_bytes()).hexdigest(),
        )


STAGE = ContinuedStage()


def _generator(
    model: Any, tokenizer: Any, request: ContinuedRequest
) -> Callable[[list[list[int]]], list[str]]:
    """What goes on with beginnings of equal length; returns each with what follows, as text."""
    import torch
    from transformers import GenerationConfig

    from runner.config.schema.eval import Bos

    bos = begin_of_windows(tokenizer, request.tokenizer_directory, Bos.auto)
    ends = model.generation_config.eos_token_id
    padding = tokenizer.pad_token_id
    # Nothing of the model's own settings: those of chat models draw, and penalise repetition.
    greedy = GenerationConfig(
        do_sample=False,
        max_new_tokens=request.continued_tokens,
        eos_token_id=tokenizer.eos_token_id if ends is None else ends,
        pad_token_id=tokenizer.eos_token_id if padding is None else padding,
    )

    def generate(batch: list[list[int]]) -> list[str]:
        begin = [] if bos is None else [bos]
        ids = torch.tensor([[*begin, *row] for row in batch], device=model.device)
        with torch.inference_mode():
            found = model.generate(
                ids, attention_mask=torch.ones_like(ids), generation_config=greedy
            )
        written = found[:, ids.shape[1] :].tolist()
        return [_text(tokenizer, *pair) for pair in zip(batch, written, strict=True)]

    return generate


def _text(tokenizer: Any, beginning: list[int], written: list[int]) -> str:
    """A beginning and what was written after it.

    Decoded together, since some tokenizers take a blank away from where a text begins; but if
    that makes another text of the beginning, as where a model writes half a character, apart.
    """
    begun, whole = (
        tokenizer.decode(ids, skip_special_tokens=True) for ids in (beginning, beginning + written)
    )
    if whole.startswith(begun):
        return str(whole)
    return str(begun + tokenizer.decode(written, skip_special_tokens=True))
