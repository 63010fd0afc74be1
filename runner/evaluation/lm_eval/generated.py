"""What is kept of generated answers, out of the samples that lm-evaluation-harness logs."""

import bisect
from collections.abc import Sequence
from typing import Any

from runner.evaluation.lm_eval.answers import Answers
from runner.evaluation.metrics.generation import Answer, Generation, Thinking, generation_of

Sample = dict[str, Any]
GENERATE = "generate_until"
"""The harness's name for how such tasks ask."""
_KEY = "generated"
_MARKS = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("[THINK]", "[/THINK]"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
)
"""What begins and what ends a thought, of models whose marks are text."""
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names under which the harness takes the most tokens to generate."""


def add_generated(
    samples: Sequence[Sample], logged: Sequence[dict[str, Any]], model: Any, answers: Answers
) -> None:
    """Add each answer's text and what is to be said of it, before any filter reads it.

    Args:
        samples: Of one task, as they are kept; those of further filters get nothing.
        logged: The harness's, in the same order.
        model: Which answered.
        answers: What it generated.
    """
    seen: set[int] = set()
    for sample, full in zip(samples, logged, strict=True):
        if sample["item"] in seen:
            continue
        seen.add(sample["item"])
        arguments, text = full["arguments"][0], full["resps"][0][0]
        prompt, settings = arguments[:2]
        limits = [settings[name] for name in _LIMITS if settings.get(name) is not None]
        ids = answers.tokens_of(arguments, text)
        sample[_KEY] = {
            "text": text,
            "tokens": _encoded(model.tokenizer, text)
            if ids is None
            else tokens_of_text(ids, text, model.tokenizer),
            "counted": ids is not None,
            "prompt_tokens": len(_encoded(model.tokenizer, prompt)),
            "limit": int(limits[0]) if limits else getattr(model, "max_gen_toks", None),
            "thinking": thinking_of(prompt, text).value,
            "greedy": not settings.get("do_sample", False),
        }


def tokens_of_text(ids: Sequence[int], text: str, tokenizer: Any) -> list[int]:
    """The tokens of which a text was made: without what ends it, and what a stop word cut off.

    Args:
        ids: As they were generated.
        text: What the harness made of them.
        tokenizer: Theirs.
    """
    special = set(tokenizer.all_special_ids)
    end = len(ids)
    while end and ids[end - 1] in special:
        end -= 1

    def length(count: int) -> int:
        return len(tokenizer.decode(list(ids[:count]), skip_special_tokens=True))

    if length(end) > len(text):
        # The fewest that say as much: a stop word in the middle of a token takes that token along.
        end = bisect.bisect_left(range(end), len(text), key=length)
    return list(ids[:end])


def _encoded(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def thinking_of(prompt: str, text: str) -> Thinking:
    """Whether an answer thinks first, and comes to an end of it.

    A chat template may have opened the thought already, at the end of the prompt.
    """
    for begin, end in _MARKS:
        opened, closed = text.rfind(begin), text.rfind(end)
        if opened < 0 and prompt.rfind(begin) <= prompt.rfind(end):
            continue
        return Thinking.finished if closed > opened else Thinking.unfinished
    return Thinking.none


def generation(samples: Sequence[Sample], before: Sequence[Sample] | None) -> Generation | None:
    """What is to be said of the generated answers among samples; ``None`` where none is.

    Args:
        samples: A task's or a group's.
        before: The unquantized model's, of the same items; older ones have no texts.
    """
    answers = _answers(samples)
    comparable = before is not None and _items(samples) == _items(before)
    return generation_of(answers, _answers(before or ()) if comparable else None)


def _items(samples: Sequence[Sample]) -> list[tuple[Any, ...]]:
    """Which items have a generated answer, what was asked, and how its tokens are told."""
    return [
        (s["task"], s["item"], s["item_sha256"], s["prompt_sha256"], s[_KEY]["counted"])
        for s in samples
        if _KEY in s
    ]


def _answers(samples: Sequence[Sample]) -> list[Answer]:
    return [
        Answer(
            text=kept["text"],
            tokens=tuple(kept["tokens"]),
            prompt_tokens=kept["prompt_tokens"],
            # Text that is tokenized anew may have a few tokens less than were generated.
            limit=kept["limit"] if kept["counted"] else None,
            thinking=Thinking(kept["thinking"]),
            is_greedy=kept["greedy"],
        )
        for sample in samples
        if (kept := sample.get(_KEY)) is not None
    ]
