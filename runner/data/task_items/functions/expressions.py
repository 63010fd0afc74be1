"""Functions of one expression."""

import random

from runner.data.task_items.functions.sketch import WORDS, Sketch, number, numbers, text, words

_SIGNS = {"": "", "+": " plus ", "-": " minus "}


def arithmetic(chosen: random.Random) -> Sketch:
    """One operation on a number."""
    k = chosen.randint(2, 99)
    return chosen.choice(
        (
            Sketch(f"add_{k}(n)", f"Return n plus {k}.", f"return n + {k}", number),
            Sketch(f"subtract_{k}(n)", f"Return n minus {k}.", f"return n - {k}", number),
            Sketch(f"multiply_by_{k}(n)", f"Return n times {k}.", f"return n * {k}", number),
        )
    )


def total(chosen: random.Random) -> Sketch:
    """Two numbers and one more, added or taken away."""
    (first, second), k = (chosen.choice("+-"), chosen.choice("+-")), chosen.randint(2, 99)
    return Sketch(
        f"combine_{k}(a, b)",
        f"Return a{_SIGNS[first]}b{_SIGNS[second]}{k}.",
        f"return a {first} b {second} {k}",
        lambda drawn: (drawn.randint(0, 40), drawn.randint(0, 40)),
    )


def formula(terms: int, chosen: random.Random) -> Sketch:
    """Several numbers, each times a number, and one more added or taken away."""
    names = "abcdef"[:terms]
    said, body = "", ""
    for place, name in enumerate(names):
        sign, k = chosen.choice("+-") if place else "", chosen.randint(2, 30)
        said += f"{_SIGNS[sign]}{name} times {k}"
        body += f" {sign} {name} * {k}" if sign else f"{name} * {k}"
    sign, k = chosen.choice("+-"), chosen.randint(2, 99)
    return Sketch(
        f"compute({', '.join(names)})",
        f"Return {said}{_SIGNS[sign]}{k}.",
        f"return {body} {sign} {k}",
        lambda drawn: tuple(drawn.randint(0, 40) for _ in names),
    )


def built_in(chosen: random.Random) -> Sketch:
    """One operation of texts and lists, with a number or a word."""
    k, far, word = chosen.randint(2, 5), chosen.randint(2, 99), chosen.choice(WORDS)
    return chosen.choice(
        (
            Sketch(f"first_{k}(text)", f"Return the first {k} letters of text.",
                   f"return text[:{k}]", text),
            Sketch(f"last_{k}(text)", f"Return the last {k} letters of text.",
                   f"return text[-{k}:]", text),
            Sketch(f"repeat_{k}(text)", f"Return text repeated {k} times.",
                   f"return text * {k}", text),
            Sketch(f"put_{word}_behind(text)", f'Return text followed by "{word}".',
                   f'return text + "{word}"', text),
            Sketch(f"put_{word}_before(text)", f'Return "{word}" followed by text.',
                   f'return "{word}" + text', text),
            Sketch(f"sum_plus_{far}(numbers)", f"Return the sum of the numbers plus {far}.",
                   f"return sum(numbers) + {far}", numbers),
            Sketch(f"largest_plus_{far}(numbers)", f"Return the largest number plus {far}.",
                   f"return max(numbers) + {far}", numbers),
            Sketch(f"add_{far}_to_each(numbers)", f"Return the numbers, each plus {far}.",
                   f"return [n + {far} for n in numbers]", numbers),
        )
    )  # fmt: skip


def condition(chosen: random.Random) -> Sketch:
    """A condition on items of a list."""
    k, by, rest = chosen.randint(4, 25), chosen.randint(2, 6), chosen.randint(2, 50)
    letter, length = chosen.choice("aeionrst"), chosen.randint(3, 4)
    return chosen.choice(
        (
            Sketch(f"larger_than_{k}(numbers)", f"Return the numbers that are larger than {k}.",
                   f"return [n for n in numbers if n > {k}]", numbers),
            Sketch(f"count_smaller_than_{k}(numbers)",
                   f"Return how many of the numbers are smaller than {k}.",
                   f"return sum(1 for n in numbers if n < {k})", numbers),
            Sketch(f"multiples_plus_{rest}(numbers)",
                   f"Return the multiples of {by} among the numbers, each plus {rest}.",
                   f"return [n + {rest} for n in numbers if n % {by} == 0]", numbers),
            Sketch(f"with_{letter}(words)",
                   f'Return the words with the letter "{letter}", each followed by "{by}".',
                   f'return [word + "{by}" for word in words if "{letter}" in word]', words),
            Sketch(f"longer_than_{length}(words)",
                   f"Return the words longer than {length} letters, each followed by {rest}.",
                   f'return [word + "{rest}" for word in words if len(word) > {length}]', words),
            Sketch(f"replace_above_{k}(numbers)",
                   f"Return the numbers, with {rest} instead of those above {k}.",
                   f"return [{rest} if n > {k} else n for n in numbers]", numbers),
        )
    )  # fmt: skip
