"""Commands as the documentation shows them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
_PROGRAMS = ("runner", "make", "python", "pip", "source", "eval", "export", "wandb")


@dataclass(frozen=True)
class Command:
    """One command line of a page."""

    page: str
    line: int
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """As it would be typed."""
        return " ".join(self.words)

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


def commands(path: Path) -> list[Command]:
    """Those in a page's fenced blocks without a language, and in its ``console`` blocks.

    A block that shows output has its commands behind ``$``; others hold a command a line, with
    comments. A backslash at a line's end goes on with the next.
    """
    found = []
    for start, block in _blocks(path.read_text("utf-8")):
        prompts = any(line.startswith("$ ") for line in block)
        number = 0
        while number < len(block):
            first = number
            line = block[number]
            while line.rstrip().endswith("\\") and number + 1 < len(block):
                number += 1
                line = line.rstrip()[:-1] + " " + block[number].strip()
            number += 1
            if prompts and not line.startswith("$ "):
                continue
            line = line.removeprefix("$ ")
            if line.split(" ")[0] in _PROGRAMS or re.match(r"[A-Z_]+=\S+ runner ", line):
                words = tuple(shlex.split(line, comments=True))
                found.append(Command(str(path.relative_to(ROOT)), start + first, words))
    return found


def _blocks(text: str) -> list[tuple[int, list[str]]]:
    """First line's number and lines of each block."""
    blocks: list[tuple[int, list[str]]] = []
    inside: list[str] | None = None
    wanted = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            if inside is None:
                inside, wanted = [], line.strip() in ("```", "```console")
                start = number + 1
            else:
                if wanted:
                    blocks.append((start, inside))
                inside = None
        elif inside is not None:
            inside.append(line)
    return blocks
