"""What is left of a budget after the choice, and why."""

from collections.abc import Callable, Sequence

_NEAR = 0.995
"""Part of a budget that counts as all of it."""

Options = Sequence[Sequence[tuple[int, float]]]
"""For each unit its formats as (cost, harm)."""


def tells_nobody(_: str) -> None:
    """For callers to whom it does not matter."""


def tell_left_over(
    budgets: Sequence[tuple[str, int, Options, int]],
    chosen: Sequence[int],
    finer: str,
    tell: Callable[[str], None],
) -> None:
    """Say why a budget is not used up; nothing where 99.5% of one are used.

    Args:
        budgets: Of each its name, the whole of it, the options, and what they may cost at most.
        chosen: The option of each unit.
        finer: Settings by which costs come in smaller steps.
        tell: Told the reason.
    """
    shares, steps = [], []
    for _, whole, options, most in budgets:
        picked = [item[index] for item, index in zip(options, chosen, strict=True)]
        left = most - sum(cost for cost, _ in picked)
        shares.append((whole - left) / whole)
        steps.append(
            [
                (cost - now, left)
                for item, (now, harm) in zip(options, picked, strict=True)
                for cost, less in item
                if less < harm
            ]
        )
    if max(shares) >= _NEAR:
        return
    used = " and ".join(
        f"{share:.1%} of {name}" for share, (name, *_) in zip(shares, budgets, strict=True)
    )
    if not steps[0]:
        tell(f"{used} used: no wider format of a layer is measured to harm less, more buys nothing")
        return
    # Of two budgets the one that a step exceeds by less.
    beyond = [
        (whole, step, left)
        for (_, whole, *_), of_one in zip(budgets, steps, strict=True)
        for step, left in of_one
        if step > left
    ]
    whole, step, left = min(beyond, key=lambda one: (one[1] - one[2]) / one[0])
    tell(
        f"{used} used: the smallest step to less harm takes {step / whole:.1%}, and "
        f"{left / whole:.1%} are left; {finer} come nearer"
    )
