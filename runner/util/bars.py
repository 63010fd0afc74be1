"""Progress bars of libraries, of which many have no callback."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def bars_told(tell: Callable[[str, int, int], None]) -> Iterator[None]:
    """Within the block every bar of tqdm is told of whenever it is drawn.

    Args:
        tell: Called with a bar's description, its finished units and all of them, 0 if unknown.
    """
    import tqdm  # type: ignore[import-untyped]

    patched: Any = tqdm.tqdm
    own = patched.display

    def display(bar: Any, *arguments: Any, **named: Any) -> Any:
        # tqdm puts a colon behind a description.
        tell((bar.desc or "").removesuffix(": "), int(bar.n), int(bar.total or 0))
        return own(bar, *arguments, **named)

    patched.display = display
    try:
        yield
    finally:
        patched.display = own
