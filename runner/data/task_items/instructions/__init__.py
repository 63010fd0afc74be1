"""Instructions whose being followed can be checked, of the kinds of IFEval (arXiv 2311.07911)."""

import itertools
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.data.task_items.choose import enumerated
from runner.data.task_items.instructions.words import SHORT, WORDS, sentence

_SEPARATORS = ("|", "***", "---", "//")
_RARE, _COMMON = "jkqxzv", "ueaios"
"""Letters to do without: hardly a sentence has the first ones, hardly any lacks the others."""
_ONE_SENTENCE = (("sentences", 1), ("between", (4, 20)))
_SENTENCE = "Write a sentence of 4 to 20 words"
_OPENERS = ("Today", "Yesterday", "Maybe", "Sometimes", "Now", "Once", "Tomorrow", "Here")


def instructions(_: list[Path], level: int, count: int, chosen: random.Random) -> list[Any]:
    """Items of one level; each is right only where words of its own are used.

    From level to level constraints get more and harder: to copy words, to write a sentence
    with given words or a given beginning (1, with more words 2 and 3), casing, lists, separators
    and JSON (4),
    counts and forbidden words (5), a repeated request and letters to do without (6), acrostics of
    lines of given length (7), words of given lengths (8).

    Args:
        level: From 1 to 8.
        count: Items.
        chosen: Draws them.
    """
    items: dict[str, dict[str, Any]] = {}
    while len(items) < count:
        order = _LEVELS[level - 1](len(items), chosen)
        instruction = " ".join([order.request, *order.phrases])
        items[instruction] = {
            "text": f"Instruction: {instruction}\nAnswer:",
            "target": order.target,
            "level": level,
            "instruction": instruction,
            "constraints": json.dumps(order.constraints),
        }
    return list(items.values())


@dataclass
class _Order:
    """An instruction in the making."""

    request: str
    target: str
    constraints: list[tuple[str, Any]]
    phrases: list[str] = field(default_factory=list)


def _easy(number: int, chosen: random.Random) -> _Order:
    """One constraint; kinds take turns, so that examples show them all.

    Had the examples one kind only, a small model would answer every instruction like it.
    """
    return _KINDS[number % len(_KINDS)](1, chosen)


def _more(number: int, chosen: random.Random) -> _Order:
    """The same, with more words."""
    return _KINDS[number % len(_KINDS)](2, chosen)


def _many(number: int, chosen: random.Random) -> _Order:
    """The same, with still more words or a further constraint."""
    return _KINDS[number % len(_KINDS)](3, chosen)


def _copied(hardness: int, chosen: random.Random) -> _Order:
    words = chosen.sample(WORDS, 3 * hardness)
    request = f"Repeat these words: {', '.join(words)}"
    return _Order(request, ", ".join(words), [("only", words)])


def _containing(hardness: int, chosen: random.Random) -> _Order:
    words, other = chosen.sample(WORDS, hardness), chosen.choice(WORDS)
    quoted = enumerated([f'"{word}"' for word in words])
    request = f"{_SENTENCE} with the word{'s' if hardness > 1 else ''} {quoted}."
    target = " ".join([sentence(words[0], other, chosen)[:-1], *words[1:]]) + "."
    return _Order(request, target, [("include", words), *_ONE_SENTENCE])


def _begun(hardness: int, chosen: random.Random) -> _Order:
    first, second, last = chosen.sample(WORDS, 3)
    start = f"{chosen.choice(_OPENERS)} the {first}"
    request = f'{_SENTENCE} that begins with "{start}"'
    constraints: list[tuple[str, Any]] = [("start", start.lower())]
    if hardness > 1:
        request += f' and has the word "{second}"'
        constraints.append(("include", [second]))
    if hardness > 2:
        request += f' and ends with "{last}"'
        constraints.append(("end", last))
    target = f"{start} was near the {second} and not far from the {last}."
    return _Order(f"{request}.", target, [*constraints, *_ONE_SENTENCE])


_KINDS = (_copied, _containing, _begun)


def _formatted(_: int, chosen: random.Random) -> _Order:
    """A required word and a format."""
    word, *others = chosen.sample(WORDS, 5)
    number = chosen.randint(2, 5)
    parts = [word, *others][:number]
    separator = chosen.choice(_SEPARATORS)
    keys = others[:2]
    plain = sentence(word, others[0], chosen)
    order = chosen.choice(
        (
            _Order(
                f"{_SENTENCE} in capital letters.", plain.upper(), [("upper", ""), *_ONE_SENTENCE]
            ),
            _Order(
                f"{_SENTENCE} in small letters only.",
                plain.lower(),
                [("lower", ""), *_ONE_SENTENCE],
            ),
            _Order(
                f"{_SENTENCE} in double quotes.", f'"{plain}"', [("quoted", ""), *_ONE_SENTENCE]
            ),
            _Order(
                f"Write a list of exactly {number} lines. Begin each line with a star (*).",
                "\n".join(f"* {part}" for part in parts),
                [("bullets", number)],
            ),
            _Order(
                f"Write exactly {number} names of things, with {separator} between them.",
                f" {separator} ".join(parts),
                [("parts", (separator, number))],
            ),
            _Order(
                f'Write a JSON object with the keys "{keys[0]}" and "{keys[1]}", in this order.',
                json.dumps(dict.fromkeys(keys, word)),
                [("json", keys)],
            ),
        )
    )
    order.phrases.append(f'Use the word "{word}".')
    order.constraints.append(("include", [word]))
    return order


def _counted(_: int, chosen: random.Random) -> _Order:
    """Sentences or words to be counted, two required words and a forbidden one."""
    topic, first, second, forbidden, *others = chosen.sample(WORDS, 12)
    number = chosen.randint(2, 4)
    if chosen.random() < 0.5:
        request = f"Write exactly {number} sentences about the {topic}."
        sentences = [f"The {a} is near the {b}." for a, b in itertools.pairwise(others)]
        target = " ".join([*sentences[: number - 1], f"It has a {first} and a {second}."])
        constraints: list[tuple[str, Any]] = [("sentences", number)]
    else:
        length = chosen.randint(7, 14)
        request = f"Write one sentence of exactly {length} words about the {topic}."
        target = " ".join(["The", first, second, *(others * 2)][:length]) + "."
        constraints = [("words", length), ("sentences", 1)]
    phrases = [
        f'Include the words "{first}" and "{second}".',
        f'Do not use the word "{forbidden}".',
    ]
    constraints += [("include", [first, second]), ("exclude", [forbidden])]
    return _Order(request, target, constraints, phrases)


def _repeated(_: int, chosen: random.Random) -> _Order:
    """A request to be repeated, numbered lines of given length, a rare letter to do without."""
    letter = chosen.choice(_RARE)
    topic, first, last, *others = chosen.sample([w for w in WORDS if letter not in w], 40)
    lines, length = chosen.randint(3, 5), chosen.randint(3, 6)
    request = f"Write {lines} numbered lines about the {topic}."
    words = iter([first, *others])
    texts = [[next(words) for _ in range(length)] for _ in range(lines)]
    texts[-1][-1] = last
    target = "\n".join(f"{n}. {' '.join(text)}" for n, text in enumerate(texts, start=1))
    return _Order(
        f"First repeat this request word for word, then answer it: {request}",
        f"{request}\n{target}",
        [
            ("repeat", request),
            ("numbered", lines),
            ("line_words", length + 1),
            ("include", [first]),
            ("end", last),
            ("no_letter", letter),
        ],
        [
            f"In the answer, put exactly {length} words after each number,",
            f'use the word "{first}", end with the word "{last}",',
            f'and do not use the letter "{letter}".',
        ],
    )


def _acrostic(_: int, chosen: random.Random) -> _Order:
    """Lines of given length whose first letters spell a word, without a common letter."""
    letter = chosen.choice(_COMMON)
    words = [word for word in WORDS if letter not in word]
    initials = {word[0] for word in words}
    spelt = chosen.choice([w for w in WORDS if len(w) in (6, 7) and set(w) <= initials])
    length = chosen.randint(4, 6)
    lines = [
        [chosen.choice([w for w in words if w[0] == initial]), *chosen.sample(words, length - 1)]
        for initial in spelt
    ]
    first, second = (line[1] for line in chosen.sample(lines[1:], 2))
    upper = chosen.random() < 0.5
    target = "\n".join(" ".join(line) for line in lines)
    case = "capital" if upper else "small"
    used = [word for line in lines for word in line]
    return _Order(
        f'Write {len(spelt)} lines whose first letters spell the word "{spelt}".',
        target.upper() if upper else target,
        [
            ("acrostic", spelt),
            ("line_words", length),
            ("upper" if upper else "lower", ""),
            ("no_letter", letter),
            *(("times", (word, used.count(word))) for word in dict.fromkeys((first, second))),
        ],
        [
            f"Each line has exactly {length} words, in {case} letters.",
            f'Nowhere use the letter "{letter}".',
            *(
                f'Use the word "{word}" exactly {_times(used.count(word))}.'
                for word in dict.fromkeys((first, second))
            ),
        ],
    )


def _measured(_: int, chosen: random.Random) -> _Order:
    """A text of words of given lengths, without a common letter."""
    letter = chosen.choice(_COMMON)
    words = [word for word in (*WORDS, *SHORT) if letter not in word]
    lengths = chosen.choices((2, 3, 4, 5, 6, 7), k=chosen.randint(16, 24))
    text = [chosen.choice([word for word in words if len(word) == length]) for length in lengths]
    last = text[-1]
    middle = text[len(text) // 2]
    return _Order(
        f"Write {len(text)} words, whose numbers of letters are {', '.join(map(str, lengths))},"
        " in this order.",
        " ".join(text),
        [
            ("lengths", lengths),
            ("end", last),
            ("times", (middle, text.count(middle))),
            ("no_letter", letter),
            ("lower", ""),
        ],
        [
            f'End with the word "{last}".',
            f'Use the word "{middle}" exactly {_times(text.count(middle))}.',
            f'Nowhere use the letter "{letter}", and use small letters only.',
        ],
    )


_LEVELS: tuple[Callable[[int, random.Random], _Order], ...] = (
    _easy,
    _more,
    _many,
    _formatted,
    _counted,
    _repeated,
    _acrostic,
    _measured,
)


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"
