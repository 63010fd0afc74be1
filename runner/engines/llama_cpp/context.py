"""A context of llama.cpp: memory for the keys and values of some sequences, and computing in it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from runner.config.schema.kv_cache import KvCache
from runner.engines.llama_cpp import cache as kv
from runner.engines.llama_cpp.settings import LlamaCpp
from runner.errors import StageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_STEP = 256
"""llama.cpp rounds the tokens of a sequence up to this."""
Entry = tuple[int, int, int, bool]
"""Token, its position, its sequence, and whether its logits are wanted."""


class Context:
    """Room for sequences, each with keys and values of its own."""

    def __init__(
        self,
        model: Any,
        settings: LlamaCpp,
        threads: int,
        kv_cache: KvCache,
        *,
        sequences: int,
        tokens: int,
    ) -> None:
        """Set memory aside.

        Args:
            model: llama.cpp's pointer.
            settings: Of the engine.
            threads: Of the CPU.
            kv_cache: Types of keys and values.
            sequences: How many at a time.
            tokens: Of each, at most.

        Raises:
            StageError: There is no such room.
        """
        import llama_cpp

        limit = settings.context_length
        if limit is not None and tokens > limit:
            raise StageError(f"{tokens} tokens do not fit engine.context_length={limit}")
        room = -(-max(tokens, limit or 0) // _STEP) * _STEP
        self._api = llama_cpp
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
        self._batch_size = max(settings.batch_size, sequences)
        self.sequences, self.room = sequences, room
        parameters = llama_cpp.llama_context_default_params()
        # Sequences have caches of their own, each an equal part of the context.
        parameters.n_ctx = sequences * room
        parameters.n_seq_max = sequences
        parameters.n_batch = parameters.n_ubatch = self._batch_size
        parameters.n_threads = parameters.n_threads_batch = threads
        parameters.type_k, parameters.type_v = map(kv.type_number, kv_cache.formats)
        if kv.is_quantized(kv_cache.value):
            parameters.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
        self.pointer = llama_cpp.llama_init_from_model(model, parameters)
        if not self.pointer:
            kept = "" if kv_cache.is_auto else f" in {kv_cache.label}"
            raise StageError(
                f"llama.cpp's KV cache has no room for {sequences} x {room} tokens{kept}"
            )

    def holds(self, sequences: int, tokens: int) -> bool:
        """Whether there is room for exactly so many sequences of up to so many tokens."""
        return self.sequences == sequences and self.room >= tokens

    def clear(self) -> None:
        """Forget all keys and values."""
        self._api.llama_memory_clear(self._api.llama_get_memory(self.pointer), True)

    def cut(self, sequence: int, tokens: int) -> int:
        """Forget what follows the first tokens of a sequence; returns how many are left.

        Keys and values are cut anywhere; a recurrent state only holds all it has seen, and is lost.
        """
        memory = self._api.llama_get_memory(self.pointer)
        if self._api.llama_memory_seq_rm(memory, sequence, tokens, -1):
            return tokens
        self._api.llama_memory_seq_rm(memory, sequence, -1, -1)
        return 0

    def saved_bytes(self) -> int:
        """Size of the first sequence's state."""
        return int(self._api.llama_state_seq_get_size(self.pointer, 0))

    def chunks(self, entries: list[Entry]) -> Iterator["NDArray[np.float32]"]:
        """Compute tokens, and give the logits of those that are wanted, in their order.

        Each array is a view that the next computation overwrites.
        """
        import numpy as np

        size = self._batch_size
        batch = self._api.llama_batch_init(size, 0, 1)
        try:
            for start in range(0, len(entries), size):
                chunk = entries[start : start + size]
                batch.n_tokens = len(chunk)
                for i, (token, position, sequence, wanted) in enumerate(chunk):
                    batch.token[i] = token
                    batch.pos[i] = position
                    batch.n_seq_id[i] = 1
                    batch.seq_id[i][0] = sequence
                    batch.logits[i] = wanted
                if code := self._api.llama_decode(self.pointer, batch):
                    raise StageError(f"llama.cpp could not compute {len(chunk)} tokens ({code})")
                rows = sum(wanted for *_, wanted in chunk)
                # It waits for the computation to end.
                pointer = self._api.llama_get_logits(self.pointer)
                if rows:
                    yield np.ctypeslib.as_array(pointer, (rows, self._vocabulary))
        finally:
            self._api.llama_batch_free(batch)

    def close(self) -> None:
        """Free the memory."""
        if self.pointer:
            self._api.llama_free(self.pointer)
        self.pointer = None
