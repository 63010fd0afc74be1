"""The harness's transformers model, with a model in a process of another environment behind it."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from runner.data.texts.windows import with_bos
from runner.engines.tokens import Asked, TokenModel
from runner.errors import StageError

_WITHOUT_EFFECT = frozenset({"attention_mask", "do_sample", "temperature", "top_p", "top_k"})
"""Of a greedy answer's settings, those that need not be read."""


def token_model(tokenizer_directory: Path, trust_remote_code: bool, longest: int | None) -> Any:
    """Class and first argument of a model of the harness that asks a ``TokenModel``.

    Prompts, their tokens, their truncation and what is kept of an answer are those of ``HFLM``:
    engines are asked the same, and only what computes differs.

    Args:
        tokenizer_directory: The unquantized model's, for its context's length and what ends an
            answer.
        trust_remote_code: Whether its configuration's own code may run.
        longest: Tokens that the engine computes at most, where that is set.
    """
    from lm_eval.models.huggingface import HFLM
    from lm_eval.models.utils import resolve_max_length
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(tokenizer_directory, trust_remote_code=trust_remote_code)
    ends = _ends(tokenizer_directory, config)

    class TokenLM(HFLM):  # type: ignore[misc, unused-ignore]
        """Overrides what computes."""

        tokens: TokenModel

        @property
        def max_length(self) -> int:
            known = int(resolve_max_length(config, self.tokenizer))
            return known if longest is None else min(known, longest)

        def _loglikelihood_tokens(
            self, requests: list[tuple[Any, list[int], list[int]]], **_options: Any
        ) -> list[tuple[float, bool]]:
            windows = []
            for _texts, context, continuation in requests:
                window = [*context, *continuation][-(self.max_length + 1) :]
                if len(window) <= len(continuation):
                    raise StageError(
                        f"an answer of {len(continuation)} tokens does not fit the context of "
                        f"{self.max_length} tokens"
                    )
                windows.append(with_bos(window, self.leading_bos))
            room = max(map(len, windows), default=0)
            found: list[Any] = [None] * len(requests)
            # In this order each shares with the one before as many tokens as with any.
            for number in sorted(range(len(requests)), key=windows.__getitem__):
                texts, _context, continuation = requests[number]
                asked = Asked(0, windows[number], scored=len(continuation))
                (told,) = self.tokens.tell([asked], 1, room)
                found[number] = (told.log_likelihood, told.is_greedy)
                if texts is not None:
                    self.cache_hook.add_partial("loglikelihood", texts, found[number])
            return found

        def _model_generate(self, context: Any, max_length: int, stop: Any, **options: Any) -> Any:
            import torch

            _require_greedy(options)
            mask = options["attention_mask"]
            rows = [row[seen > 0].tolist() for row, seen in zip(context, mask, strict=True)]
            new = max_length - context.shape[1]
            answers = self._greedy(rows, new, [text for text in stop if text])
            padding = self.tokenizer.pad_token_id
            longest_answer = max(map(len, answers))
            padded = [row + [padding] * (longest_answer - len(row)) for row in answers]
            added = torch.tensor(padded, dtype=context.dtype).reshape(len(rows), longest_answer)
            return torch.cat([context.cpu(), added], dim=1)

        def _greedy(self, rows: list[list[int]], new: int, stop: list[str]) -> list[list[int]]:
            """What follows each row, up to what ends it."""
            # A tokenizer's token is a byte at least: no more of them hold a stop sequence.
            looked_at = max((len(text.encode()) for text in stop), default=0) + 1
            room = max(map(len, rows)) + new
            answers: list[list[int]] = [[] for _ in rows]
            asked = [Asked(place, row) for place, row in enumerate(rows)]
            while asked:
                told = self.tokens.tell(asked, self.batch_size, room)
                going = []
                for question, answer in zip(asked, told, strict=True):
                    token, written = answer.next_token, answers[question.place]
                    assert token is not None
                    written.append(token)
                    tail = self.tokenizer.decode(written[-looked_at:])
                    is_done = token in ends or any(text in tail for text in stop)
                    if len(written) < new and not is_done:
                        going.append(Asked(question.place, [token], more=True))
                asked = going
            return answers

    return TokenLM, SimpleNamespace(config=config, device=_cpu())


def _cpu() -> Any:
    import torch

    return torch.device("cpu")


def _ends(directory: Path, config: Any) -> frozenset[int]:
    """Tokens that end an answer, as transformers reads them."""
    from transformers import GenerationConfig

    try:
        stated = GenerationConfig.from_pretrained(directory).eos_token_id
    except OSError:
        stated = None
    if stated is None:
        stated = getattr(config, "eos_token_id", None)
    return frozenset([] if stated is None else stated if isinstance(stated, list) else [stated])


def _require_greedy(options: dict[str, Any]) -> None:
    """See that nothing but the most likely tokens is asked for."""
    if options.get("do_sample") or options.get("temperature"):
        raise StageError(
            "the task draws answers (do_sample, temperature), and this engine gives the most "
            "likely ones alone: engine=hf, or do_sample: false in the task's generation_kwargs"
        )
    if unknown := sorted(set(options) - _WITHOUT_EFFECT):
        raise StageError(
            f"the task's generation_kwargs have {', '.join(unknown)}, which this engine does not "
            "know: engine=hf"
        )
