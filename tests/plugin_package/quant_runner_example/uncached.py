"""Engine ``uncached``: transformers that computes the whole sequence for every token."""

import itertools
import time

from runner.engines.base import GenerationTiming, LoadSpec
from runner.engines.hf import HfEngine
from runner.engines.hf.model import HfModel


class UncachedModel(HfModel):
    """A model loaded by transformers, used without a KV cache."""

    def generate(self, batch_size: int, prompt_tokens: int, new_tokens: int) -> GenerationTiming:
        """Greedy decoding, the hard way."""
        import torch

        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        ids = torch.randint(0, vocabulary, (batch_size, prompt_tokens))
        marks = [time.perf_counter()]
        with torch.inference_mode():
            for _ in range(new_tokens):
                logits = self.model(input_ids=ids, use_cache=False, logits_to_keep=1).logits
                ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
                marks.append(time.perf_counter())
        steps = [after - before for before, after in itertools.pairwise(marks)]
        return GenerationTiming(steps[0], steps[1:])


class UncachedEngine(HfEngine):
    """Reads what transformers reads."""

    def load(self, spec: LoadSpec) -> UncachedModel:
        """Load as engine ``hf`` does."""
        return UncachedModel(super().load(spec).model, spec.device)


ENGINE = UncachedEngine()
