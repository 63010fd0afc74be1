"""Messages about unknown names: the nearest one, and all that exist."""

import difflib
from collections.abc import Iterable

_MOST = 60
"""Names to list; of more the nearest alone are."""


def nearest(wrong: str, known: Iterable[str]) -> str | None:
    """The name that was most likely meant, if one is like it."""
    names = sorted(set(known))
    by_lower = {name.lower(): name for name in names}
    exact = by_lower.get(wrong.lower().removesuffix(".yaml").removesuffix(".yml"))
    close = difflib.get_close_matches(wrong.lower()[:100], list(by_lower), n=1)
    return exact or (by_lower[close[0]] if close else None)


def unknown(what: str, names: Iterable[str], wrong: str, title: str) -> str:
    """That there is no ``what``.

    Args:
        what: As it was given.
        names: What there is.
        wrong: The part of ``what`` that is compared with them.
        title: What they are.
    """
    known = sorted(set(names))
    shown = what if len(what) <= 200 else f"{what[:100]}…"
    if not known:
        return f"there is no {shown}"
    close = nearest(wrong, known)
    guess = f"; did you mean {close}?" if close is not None else ""
    listed = ", ".join(known[:_MOST]) + (", …" if len(known) > _MOST else "")
    return f"there is no {shown}{guess} ({title}: {listed})"
