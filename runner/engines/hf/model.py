"""A causal language model that transformers loaded: losses, distributions, timed generation."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.config.schema.kv_cache import KvCache
from runner.engines.base import DeviceMemory, Footprint, GenerationTiming
from runner.engines.distributions import ROWS_AT_ONCE, FullDistributions, LinearHead
from runner.engines.hf import cache as kv
from runner.engines.hf.footprints import device_bytes, footprint_of
from runner.engines.hf.head import find_head, is_linear_in_states, widen_head
from runner.engines.instruments import torch_memory
from runner.engines.overflow import not_finite
from runner.engines.responses import layer_responses

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray


class HfModel:
    """A model loaded by transformers."""

    def __init__(
        self,
        model: Any,
        device: str,
        checkpoint: Path | None = None,
        *,
        wide_logits: bool = False,
        kv_cache: KvCache | None = None,
    ) -> None:
        """Wrap a causal language model that lies on ``device`` and was read from a directory.

        With ``wide_logits`` the output matrix's product is computed in float32. ``kv_cache`` is
        how the model was made to hold keys and values.
        """
        if wide_logits:
            widen_head(model)
        self._wide_logits = wide_logits
        self._kv_format = kv_cache or KvCache()
        self.model = model
        self._device = device
        self._checkpoint = checkpoint
        self._chunked: bool | None = None
        self._stored_head: LinearHead | None = None
        self._allocated = 0
        """Bytes on GPUs when a peak was begun."""
        self._kv_cache: tuple[int, int] | None = None
        """Bytes and tokens of the last generation's cache."""

    def token_losses(self, window: list[int]) -> "NDArray[np.float32]":
        """Losses by chunks, so that float32 logits of a whole window never exist."""
        import torch

        with torch.inference_mode():
            states, head = self._states(window)
            targets = torch.split(torch.tensor(window[1:]), ROWS_AT_ONCE)
            losses = []
            for part, right in zip(torch.split(states, ROWS_AT_ONCE), targets, strict=True):
                # On the last of several GPUs, where the head is.
                logits = head(part).float()
                targets_there = right.to(logits.device)
                losses.append(
                    torch.nn.functional.cross_entropy(logits, targets_there, reduction="none")
                )
            return torch.cat(losses).cpu().numpy()

    def distributions(self, window: list[int], scored: int, top_k: int) -> FullDistributions:
        """All probabilities, with the final states where the head is a stored matrix."""
        return self.distributions_in_batch(window, scored, top_k, 1)

    def distributions_in_batch(
        self, window: list[int], scored: int, top_k: int, batch_size: int
    ) -> FullDistributions:
        """As ``distributions``, of one of several copies that are computed together."""
        import torch

        with torch.inference_mode():
            states, head = self._states(window, batch_size)
            states = states[-scored:]
        # What is not taken apart are logits; such a model may show no head.
        vocabulary = head.weight.shape[0] if self._chunked else states.shape[-1]
        final_states = None if self._stored_head is None else states.float().cpu().numpy()
        return FullDistributions(
            vocabulary=vocabulary,
            chunks=_log_softmax_chunks(states, head),
            states=final_states,
            head=self._stored_head,
        )

    def generate(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> GenerationTiming:
        """Greedy decoding with the model's own KV cache; no tokenizer, no sampling."""
        import torch

        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        generator = torch.Generator().manual_seed(0)
        prompt = torch.randint(0, vocabulary, (batch_size, prompt_tokens), generator=generator)
        prompt = prompt.to(self._device)
        with torch.inference_mode():
            marks = [self._now()]
            output = self.model(input_ids=prompt, use_cache=True, logits_to_keep=1)
            token = output.logits[:, -1:].argmax(-1)
            marks.append(self._now())
            for _ in range(new_tokens - 1):
                output = self.model(
                    input_ids=token, past_key_values=output.past_key_values, use_cache=True
                )
                token = output.logits[:, -1:].argmax(-1)
                marks.append(self._now())
        # The last token was not put in.
        tokens = batch_size * (prompt_tokens + new_tokens - 1)
        self._kv_cache = (_cache_bytes(output.past_key_values), tokens)
        if output.logits.isnan().any() and self._checkpoint is not None:
            dtype = str(self.model.dtype).removeprefix("torch.")
            setting = "eval.dtype" if self._wide_logits else "engine.dtype"
            raise not_finite(self._checkpoint, dtype, "the model gives logits", setting)
        steps = [after - before for before, after in itertools.pairwise(marks)]
        return GenerationTiming(steps[0], steps[1:])

    def footprint(self) -> Footprint:
        """Sizes of all tensors, and of those that a decode step was seen to read."""
        return footprint_of(self.model, self._kv_cache_bytes_per_token(), self._device)

    def responses(self) -> "dict[str, NDArray[np.float32]]":
        """See ``RespondingModel``."""
        return layer_responses(self.model)

    reserves_kv_cache = False

    @property
    def arithmetic(self) -> str:
        """The type of what is not quantized."""
        return str(self.model.dtype).removeprefix("torch.")

    def measured_kv_cache_bytes_per_token(self) -> float | None:
        """Bytes of the cache's tensors after the last generation, over its tokens."""
        if self._kv_cache is None or not self._kv_cache[0]:
            return None
        held, tokens = self._kv_cache
        return held / tokens

    def begin_device_peak(self) -> None:
        """Begin torch's peaks anew, and remember what it holds beforehand."""
        if self._device.startswith("cuda"):
            self._allocated = torch_memory.begin_peak()

    def device_memory(self) -> DeviceMemory | None:
        """What torch allocated on all GPUs. The cache is taken as tokens come."""
        if not self._device.startswith("cuda") or self._kv_cache is None:
            return None
        weights, cache = device_bytes(self.model), self._kv_cache[0]
        computing = torch_memory.peak_bytes() - self._allocated
        return DeviceMemory(
            weights=weights,
            kv_cache=cache,
            activations=max(0, computing - cache),
            other=max(0, self._allocated - weights),
        )

    def close(self) -> None:
        """Let go of the model."""
        self.model = None

    def _kv_cache_bytes_per_token(self) -> int:
        config = self.model.config.get_text_config()
        heads = config.num_attention_heads
        kv_heads = getattr(config, "num_key_value_heads", None) or heads
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        bits = self._kv_format.bits(head_dim, wide=8.0 * self.model.dtype.itemsize)
        return int(2 * config.num_hidden_layers * kv_heads * head_dim * bits / 8)

    def _states(self, window: list[int], batch_size: int = 1) -> tuple["torch.Tensor", Any]:
        """What predicts each token after the first, and the head that makes it logits."""
        import torch

        ids = torch.tensor([window[:-1]] * batch_size, device=self._device)
        if self._chunked is None:
            self._chunked = is_linear_in_states(self.model, ids[:, :8])
            if self._chunked and self._wide_logits and self._checkpoint is not None:
                self._stored_head = find_head(self.model, self._checkpoint)
        if not self._chunked:
            return self.model(input_ids=ids, use_cache=False).logits[0], torch.nn.Identity()
        states = self._decoder()(input_ids=ids, use_cache=False).last_hidden_state[0]
        return states, self.model.get_output_embeddings()

    def _decoder(self) -> Any:
        return self.model.get_decoder()

    def _now(self) -> float:
        if self._device.startswith("cuda"):
            import torch

            for gpu in range(torch.cuda.device_count()):
                torch.cuda.synchronize(gpu)
        return time.perf_counter()


def _log_softmax_chunks(states: "torch.Tensor", head: Any) -> Iterator["NDArray[np.float32]"]:
    import torch

    for part in torch.split(states, ROWS_AT_ONCE):
        with torch.inference_mode():
            log_probabilities = torch.log_softmax(head(part).float(), dim=-1).cpu().numpy()
        yield log_probabilities


def _cache_bytes(cache: Any) -> int:
    """Bytes of keys and values; 0 when they are kept in a way that is not known here."""
    return sum(kv.held_bytes(layer) for layer in getattr(cache, "layers", ()))
