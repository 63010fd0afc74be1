"""What a loaded model says of token ids, for callers in other processes and environments."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True)
class Asked:
    """Tokens for one of the places in which a model keeps a sequence's keys and values."""

    place: int
    tokens: list[int]
    more: bool = False
    """Whether they follow those that the place holds, instead of replacing them."""
    scored: int = 0
    """How many of the last tokens are to be scored, each given those before it. The last one is
    then not computed: what follows it is not told."""


@dataclass(frozen=True)
class Told:
    """The answer to one ``Asked``."""

    log_likelihood: float | None = None
    """Of the scored tokens together, natural; ``None`` where none is."""
    is_greedy: bool | None = None
    """Whether each scored token is the most likely one."""
    next_token: int | None = None
    """The most likely one after all tokens; ``None`` where tokens are scored."""


@runtime_checkable
class TokenModel(Protocol):
    """A loaded model that keeps sequences, so that what they share is computed once."""

    @property
    def arithmetic(self) -> str:
        """As ``LoadedModel.arithmetic``."""

    def tell(self, asked: list[Asked], places: int, tokens: int) -> list[Told]:
        """Answer in the order of asking.

        Args:
            asked: One for a place at most.
            places: How many there are to be. Another number than before empties all of them.
            tokens: That each is to have room for. More than before empties all of them; what
                ``more`` follows must have had its room from the start.

        Raises:
            StageError: There is no room.
        """

    def close(self) -> None:
        """Free the model's memory."""
