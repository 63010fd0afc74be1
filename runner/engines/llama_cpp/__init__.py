"""Engine ``llama_cpp``: llama.cpp, through llama-cpp-python."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema.kv_cache import KvCache
from runner.data.models.gguf_file import only_gguf, read_gguf
from runner.data.models.llama_cpp_families import family_refusal
from runner.engines.base import (
    CheckpointFacts,
    DeviceMemory,
    Footprint,
    GenerationTiming,
    LoadSpec,
)
from runner.engines.distributions import ROWS_AT_ONCE, FullDistributions, log_softmax
from runner.engines.llama_cpp import cache as kv
from runner.engines.llama_cpp import deployed
from runner.engines.llama_cpp import server as llama_cpp_server
from runner.engines.llama_cpp.buffers import Buffers
from runner.engines.llama_cpp.context import Context
from runner.engines.llama_cpp.footprint import gguf_footprint
from runner.engines.llama_cpp.places import Places
from runner.engines.llama_cpp.planned import reads
from runner.engines.llama_cpp.settings import NO_GPU, LlamaCpp, layers_on_gpu
from runner.engines.planned import Place, Reads, Weights
from runner.engines.server import Requests, ServerCommand
from runner.engines.tokens import Asked, Told
from runner.engines.traits import HarnessModel, OwnArithmetic, Products, Traits
from runner.errors import StageError
from runner.util.llama_cpp_log import listen

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class LlamaCppEngine:
    """llama.cpp: GGUF files, arithmetic as it sees fit."""

    config = LlamaCpp
    packages = ("llama-cpp-python", "gguf")
    dense_format = "gguf"
    traits = Traits(
        harness_model=HarnessModel.tokens,
        has_server=True,
        reads_best=("gguf",),
        own_arithmetic=OwnArithmetic(
            name="llama.cpp",
            how=(
                "llama.cpp multiplies quantized weights by 8-bit activations and others in "
                "the type they are stored in, and keeps keys and values as kv_cache says, in "
                "float16 by default"
            ),
            dense_on_cpus="float32",
        ),
        # It rounds activations to 8 bits for quantized weights; float16 ones it widens on a CPU.
        products=Products(quantized="int8", dense_on_cpu="fp32", dense_on_gpu="fp16"),
        dense_without_bfloat16="float16",
        kv_cache_number_bytes=kv.KV_BYTES,
        kv_cache_formats=tuple(kv.TYPES),
        kv_cache_apart=True,
    )

    def refusal(self, checkpoint: CheckpointFacts) -> str | None:
        """It reads nothing but GGUF files, and not all models."""
        if checkpoint.format != "gguf":
            return f"llama.cpp reads GGUF files, not {checkpoint.format}; method=gguf makes one"
        return family_refusal(checkpoint.config, checkpoint.tokens)

    def kv_cache_refusal(self, kv_cache: KvCache, checkpoint: CheckpointFacts) -> str | None:
        """Heads that blocks do not divide."""
        return kv.refusal(kv_cache, checkpoint.config)

    def reads(self, weights: Weights, place: Place) -> Reads:
        """GGUF files, wherever it has a backend."""
        return reads(weights, place)

    serve_command = staticmethod(deployed.serve_command)
    serve_measured = staticmethod(deployed.serve_measured)
    measured_with = staticmethod(deployed.measured_with)

    def server(self, spec: LoadSpec, requests: Requests) -> ServerCommand:
        """llama-cpp-python's server. It answers one request after the other."""
        return llama_cpp_server.command(spec, requests)

    def load(self, spec: LoadSpec) -> "LlamaCppModel":
        """Map the file into memory and run one token. What ``spec.dtype`` says has no effect."""
        import llama_cpp

        settings = spec.settings
        assert isinstance(settings, LlamaCpp)
        file = only_gguf(spec.checkpoint)
        buffers = Buffers()
        listen(buffers.hear)
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        parameters.n_gpu_layers = layers_on_gpu(spec.device, settings)
        if parameters.n_gpu_layers != 0 and not llama_cpp.llama_supports_gpu_offload():
            raise StageError(NO_GPU)
        model = llama_cpp.llama_model_load_from_file(str(file).encode(), parameters)
        if not model:
            raise StageError(f"llama.cpp cannot load {file.name}")
        loaded = LlamaCppModel(model, file, settings, spec.threads, buffers, kv_cache=spec.kv_cache)
        loaded.generate(batch_size=1, prompt_tokens=1, new_tokens=1)
        return loaded


class LlamaCppModel:
    """A model loaded by llama.cpp, and the context that the last call needed."""

    def __init__(
        self,
        model: Any,
        path: Path,
        settings: LlamaCpp,
        threads: int,
        buffers: Buffers,
        *,
        kv_cache: KvCache | None = None,
    ) -> None:
        """Wrap a model read from ``path``, whose ``buffers`` hear llama.cpp's log."""
        import llama_cpp

        self._api = llama_cpp
        self._model = model
        self._path = path
        self._settings = settings
        self._threads = threads
        self._buffers = buffers
        self._kv_cache = kv_cache or KvCache()
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._context: Context | None = None
        self._places = Places(self._clear)
        self._tokens = 0
        """Of each sequence in the cache after the last generation."""

    def token_losses(self, window: list[int]) -> "NDArray[np.float32]":
        """Losses by chunks of the batch size; no token is put in front."""
        import numpy as np

        losses = []
        targets = np.array(window[1:])
        for found in self.distributions(window, len(targets), top_k=0).chunks:
            right, targets = np.split(targets, [len(found)])
            losses.append(-np.take_along_axis(found, right[:, None], axis=1)[:, 0])
        return np.concatenate(losses)

    def distributions(self, window: list[int], scored: int, top_k: int) -> FullDistributions:
        """All probabilities; the last token has nothing after it to predict."""
        first = len(window) - 1 - scored
        entries = [
            (token, position, 0, position >= first) for position, token in enumerate(window[:-1])
        ]
        return FullDistributions(self._vocabulary, self._log_softmax_chunks(entries))

    def _log_softmax_chunks(
        self, entries: list[tuple[int, int, int, bool]]
    ) -> Iterator["NDArray[np.float32]"]:
        import numpy as np

        context = self._clear(sequences=1, tokens=len(entries))
        for batch in context.chunks(entries):
            for logits in np.split(batch, range(ROWS_AT_ONCE, len(batch), ROWS_AT_ONCE)):
                yield log_softmax(logits)

    def generate(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> GenerationTiming:
        """Greedy decoding of all sequences together; no tokenizer, no sampler."""
        import numpy as np

        context = self._clear(sequences=batch_size, tokens=prompt_tokens + new_tokens)
        generator = np.random.default_rng(0)
        prompts = generator.integers(0, self._vocabulary, (batch_size, prompt_tokens)).tolist()
        last = prompt_tokens - 1
        entries = [
            (token, position, sequence, position == last)
            for sequence, prompt in enumerate(prompts)
            for position, token in enumerate(prompt)
        ]
        marks = [time.perf_counter()]
        for step in range(new_tokens):
            chosen = np.concatenate([logits.argmax(axis=1) for logits in context.chunks(entries)])
            marks.append(time.perf_counter())
            entries = [
                (token, prompt_tokens + step, sequence, True)
                for sequence, token in enumerate(chosen.tolist())
            ]
        steps = [after - before for before, after in itertools.pairwise(marks)]
        self._tokens = prompt_tokens + new_tokens - 1
        return GenerationTiming(steps[0], steps[1:])

    def tell(self, asked: list[Asked], places: int, tokens: int) -> list[Told]:
        """See ``TokenModel.tell``."""
        return self._places.tell(asked, places, tokens)

    def footprint(self) -> Footprint:
        """Sizes of the tensors in the file, which llama.cpp computes with as they are."""
        total = self._api.llama_model_size(self._model)
        return gguf_footprint(read_gguf(self._path), total, self._kv_cache)

    reserves_kv_cache = True

    @property
    def arithmetic(self) -> str:
        """Its own, whatever was asked for."""
        own = ENGINE.traits.own_arithmetic
        assert own is not None
        return own.name

    def measured_kv_cache_bytes_per_token(self) -> float | None:
        """Size of a sequence's saved state, over its tokens: a few bytes of positions included."""
        assert self._context is not None
        return self._context.saved_bytes() / self._tokens

    def begin_device_peak(self) -> None:
        """Nothing: what it computes in is of a size."""

    def device_memory(self) -> DeviceMemory | None:
        """What it logged of its buffers, with the cache of the last generation."""
        assert self._context is not None
        return self._buffers.on_gpus(self._context.saved_bytes() * self._context.sequences)

    def close(self) -> None:
        """Free the context and the model."""
        if self._context is not None:
            self._context.close()
        if self._model:
            self._api.llama_model_free(self._model)
        self._context = self._model = None

    def _clear(self, sequences: int, tokens: int) -> Context:
        """An empty context for so many sequences of so many tokens."""
        self._places.forget()
        limit = self._settings.context_length
        if self._context is not None:
            fits = limit is None or tokens <= limit
            if fits and self._context.holds(sequences, max(tokens, limit or 0)):
                self._context.clear()
                return self._context
            self._context.close()
        self._context = None
        self._buffers.new_context()
        self._context = Context(
            self._model,
            self._settings,
            self._threads,
            self._kv_cache,
            sequences=sequences,
            tokens=tokens,
        )
        return self._context


ENGINE = LlamaCppEngine()
