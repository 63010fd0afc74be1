"""Functions with loops, and algorithms of textbooks with rules of their own."""

import random

from runner.data.task_items.functions.sketch import Arguments, Sketch, number, numbers, text


def loop(chosen: random.Random) -> Sketch:
    """A loop that carries something along."""
    k, by, most = chosen.randint(2, 9), chosen.randint(2, 5), chosen.randint(10, 60)
    return chosen.choice(
        (
            Sketch("running_sums(numbers)",
                   f"Return the sum of the numbers up to each place, modulo {most}.",
                   f"total, found = 0, []\nfor n in numbers:\n    total += n\n"
                   f"    found.append(total % {most})\nreturn found", numbers),
            Sketch("first_place(numbers)",
                   f"Return the place, from 0, of the first number that is a multiple of {k} or "
                   f"larger than {most // 2}, or -1 if there is none.",
                   f"for place, n in enumerate(numbers):\n"
                   f"    if n % {k} == 0 or n > {most // 2}:\n        return place\nreturn -1",
                   numbers),
            Sketch("sum_until(numbers)",
                   f"Return the sum of the numbers from the start, without the number that would "
                   f"make it larger than {most} and what follows it.",
                   f"total = 0\nfor n in numbers:\n    if total + n > {most}:\n        break\n"
                   f"    total += n\nreturn total", numbers),
            Sketch("shift(text)",
                   f"Return text with each letter replaced by the one {k} places later in the "
                   "alphabet; after z comes a.",
                   f'return "".join(chr((ord(c) - 97 + {k}) % 26 + 97) for c in text)', text),
            Sketch("groups(numbers)",
                   f"Return the sums of groups of {by} numbers that follow each other, each plus "
                   f"{k}; the last group may be smaller.",
                   f"return [sum(numbers[i:i + {by}]) + {k} for i in range(0, len(numbers), {by})]",
                   numbers),
            Sketch("weighted(numbers)",
                   f"Return the sum of the numbers, each times its place, where the first place is "
                   f"{most}.",
                   f"return sum(n * i for i, n in enumerate(numbers, {most}))", numbers),
        )
    )  # fmt: skip


def algorithm(chosen: random.Random) -> Sketch:
    """An algorithm of textbooks, with costs, coins or rules that were drawn."""
    a, b = sorted(chosen.sample(range(2, 8), 2))
    c, k = chosen.randint(8, 12), chosen.randint(2, 6)
    return chosen.choice(
        (
            Sketch("ways(n)",
                   f"Return in how many ways n can be paid with coins of {a}, {b} and {c}, where "
                   "the order of the coins does not matter.",
                   f"ways = [1] + [0] * n\nfor coin in ({a}, {b}, {c}):\n"
                   "    for amount in range(coin, n + 1):\n"
                   "        ways[amount] += ways[amount - coin]\nreturn ways[n]", _amount),
            Sketch("distance(first, second)",
                   "Return the least cost of turning the first text into the second, where a "
                   f"letter put in costs {a}, one taken out {b} and one replaced by another {c}.",
                   f"row = [{a} * j for j in range(len(second) + 1)]\n"
                   "for i, x in enumerate(first, 1):\n"
                   f"    above, row = row, [{b} * i]\n"
                   "    for j, y in enumerate(second, 1):\n"
                   f"        kept = above[j - 1] + (0 if x == y else {c})\n"
                   f"        row.append(min(kept, above[j] + {b}, row[-1] + {a}))\n"
                   "return row[-1]", _two_texts),
            Sketch("left_over(n)",
                   f"The numbers 1 to n stand in a circle. Counting from number {k} on, every "
                   f"{c}th that is still there is taken away. Return the last number that is left.",
                   f"circle, place = list(range(1, n + 1)), {k} - 1\n"
                   "while len(circle) > 1:\n"
                   f"    place = (place + {c} - 1) % len(circle)\n"
                   "    circle.pop(place)\nreturn circle[0]", _several),
            Sketch("steps(n)",
                   f"Return how many steps it takes from n to 1 or less: divide by {k} where that "
                   f"leaves no remainder, else subtract {a} if n is larger than {c}, else 1.",
                   f"count = 0\nwhile n > 1:\n    if n % {k} == 0:\n        n //= {k}\n"
                   f"    elif n > {c}:\n        n -= {a}\n    else:\n        n -= 1\n"
                   "    count += 1\nreturn count", _amount),
            Sketch("longest(numbers)",
                   "Return the length of the longest subsequence, not necessarily of neighbours, "
                   f"in which each number is larger than the one before by {a} to {c}.",
                   "best = []\nfor i, n in enumerate(numbers):\n"
                   f"    before = [best[j] for j in range(i) if {a} <= n - numbers[j] <= {c}]\n"
                   "    best.append(1 + max(before, default=0))\nreturn max(best)", numbers),
            Sketch("digits(n)",
                   f"Return the sum of n's digits in base {k + 1}, plus {c} for each digit that is "
                   f"0, in the number's writing without leading zeros; for n = 0 return {a}.",
                   f"if n == 0:\n    return {a}\ntotal = 0\nwhile n:\n"
                   f"    n, digit = divmod(n, {k + 1})\n    total += digit or {c}\nreturn total",
                   number),
        )
    )  # fmt: skip


def _amount(chosen: random.Random) -> Arguments:
    return (chosen.randint(10, 120),)


def _several(chosen: random.Random) -> Arguments:
    return (chosen.randint(8, 50),)


def _two_texts(chosen: random.Random) -> Arguments:
    return tuple("".join(chosen.choices("abc", k=chosen.randint(2, 6))) for _ in range(2))
