"""Which tokens each perplexity protocol looks at, and which it scores."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.config.schema.eval import Bos, PerplexityProtocol
from runner.data.texts import protocols, windows
from runner.data.texts.degenerate import is_degenerate
from runner.data.texts.documents import write_documents
from runner.data.texts.protocols import (
    Excerpt,
    Window,
    digest,
    half_window,
    prefix_token,
    protocol_text,
    rolling_windows,
)
from runner.errors import StageError

pytestmark = pytest.mark.unit

BOS, EOS = 1, 2


class Letters:
    """A tokenizer whose tokens are characters."""

    def __init__(self, bos: int | None = BOS, puts_bos: bool = False) -> None:
        self.bos_token_id = bos
        self.eos_token_id = EOS
        self._before = [BOS] if puts_bos else []

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        before = self._before if add_special_tokens else []
        return {"input_ids": [*before, *map(ord, text)]}


def excerpt(
    directory: Path, documents: list[str], length: int, count: int, bos: Bos = Bos.auto
) -> Excerpt:
    write_documents(directory, documents)
    return Excerpt(directory, directory, length, count, trust_remote_code=False, bos=bos)


@pytest.fixture
def letters(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Holds the tokenizer that is used."""
    used = SimpleNamespace(tokenizer=Letters())

    def load(*_: Any) -> Letters:
        return used.tokenizer

    monkeypatch.setattr(protocols, "tokenizer_of", load)
    monkeypatch.setattr(windows, "tokenizer_of", load)
    return used


def test_gptq_scores_all_but_the_first_of_disjoint_windows(
    tmp_path: Path, letters: SimpleNamespace
) -> None:
    found = protocol_text(PerplexityProtocol.gptq, excerpt(tmp_path, ["abc", "defgh"], 4, 2))
    assert found.name == "gptq_4"
    assert found.windows == [Window([97, 98, 99, 10], 3), Window([10, 100, 101, 102], 3)]
    assert (found.words, found.bytes) == (None, None)


@pytest.mark.parametrize(("puts_bos", "first"), [(True, BOS), (False, ord("e"))])
def test_llama_cpp_scores_the_second_half_after_a_bos(
    puts_bos: bool, first: int, tmp_path: Path, letters: SimpleNamespace
) -> None:
    letters.tokenizer = Letters(puts_bos=puts_bos)
    text = "abcdefghijkl" if not puts_bos else "bcdefghijkl"
    found = protocol_text(PerplexityProtocol.llama_cpp, excerpt(tmp_path, [text], 4, 3))
    assert found.name == "llama_cpp_4"
    # Of 4 tokens the predictions made at positions 2 (of "g") alone count.
    assert found.windows[1] == Window([first, ord("f"), ord("g"), ord("h")], 1)
    assert half_window(list(range(512)), BOS).scored == 255
    assert half_window(list(range(512)), BOS).tokens == [BOS, *range(1, 512)]


def by_hand(ids: list[int], prefix: int, length: int) -> list[tuple[list[int], int, int]]:
    """What lm-evaluation-harness says in words: (seen, predicted token) in order of the tokens."""
    seen = []
    for i, token in enumerate(ids):
        start = i // length * length
        end = min(start + length, len(ids))
        first = 0 if start == 0 else end - length
        seen.append(([prefix, *ids][first : i + 1], token, end - start))
    return seen


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 11])
def test_lm_eval_predicts_every_token_once_and_never_sees_more_than_the_context(count: int) -> None:
    ids, length = list(range(10, 10 + count)), 4
    predicted = []
    for window in rolling_windows(ids, EOS, length):
        assert len(window.tokens) - 1 <= length
        for i in range(len(window.tokens) - window.scored, len(window.tokens)):
            predicted.append((window.tokens[:i], window.tokens[i], window.scored))
    assert predicted == by_hand(ids, EOS, length)
    full = [len(window.tokens) - 1 for window in rolling_windows(ids, EOS, length)]
    assert full == [min(count, length)] * -(-count // length), "the last reaches back"


def test_lm_eval_counts_words_and_bytes_of_whole_documents(
    tmp_path: Path, letters: SimpleNamespace
) -> None:
    documents = ["a bc", "grüße dich", "and a third one that is too long"]
    found = protocol_text(PerplexityProtocol.lm_eval, excerpt(tmp_path, documents, 8, 3))
    assert found.name == "lm_eval_8"
    # 4 + 10 characters leave 10 of the third document, cut back to the end of a word.
    taken = ["a bc", "grüße dich", "and a"]
    assert found.words == 2 + 2 + 2
    assert found.bytes == sum(len(text.encode()) for text in taken) == 4 + 12 + 5
    scored = [w.tokens[-w.scored :] for w in found.windows]
    assert "".join(chr(token) for part in scored for token in part) == "".join(taken)
    assert [w.tokens[0] for w in found.windows] == [BOS, BOS, ord("r"), BOS]


def test_lm_eval_takes_eos_where_there_is_no_bos(tmp_path: Path, letters: SimpleNamespace) -> None:
    letters.tokenizer = Letters(bos=None)
    found = protocol_text(PerplexityProtocol.lm_eval, excerpt(tmp_path, ["abcdefgh"], 4, 2))
    assert found.windows[0].tokens[0] == EOS


@pytest.mark.parametrize("protocol", list(PerplexityProtocol))
def test_a_text_that_is_too_short_is_said_to_be(
    protocol: PerplexityProtocol, tmp_path: Path, letters: SimpleNamespace
) -> None:
    with pytest.raises(StageError, match=r"the text has 5 tokens.*reduce the number of windows"):
        protocol_text(protocol, excerpt(tmp_path, ["abcde"], 4, 2))


@pytest.mark.parametrize("protocol", [PerplexityProtocol.spread, PerplexityProtocol.gptq])
@pytest.mark.parametrize(
    ("puts_bos", "family", "bos", "begins"),
    [
        (True, "llama", Bos.auto, True),
        (False, "llama", Bos.auto, False),
        (False, "gemma3_text", Bos.auto, True),
        (False, "llama", Bos.always, True),
        (True, "gemma3_text", Bos.never, False),
    ],
)
def test_the_name_says_whether_every_window_begins_with_bos(
    protocol: PerplexityProtocol, puts_bos: bool, family: str, bos: Bos, begins: bool,
    tmp_path: Path, letters: SimpleNamespace,
) -> None:  # fmt: skip
    letters.tokenizer = Letters(puts_bos=puts_bos)
    (tmp_path / "config.json").write_text(f'{{"model_type": "{family}"}}')
    found = protocol_text(protocol, excerpt(tmp_path, ["the quick brown fox jumps"], 5, 4, bos))
    assert found.name == f"{protocol.value}{'_bos' if begins else ''}_5"
    assert found.sample.bos is begins
    assert {len(window.tokens) for window in found.windows} == {5}
    assert {window.scored for window in found.windows} == {4}
    first = [window.tokens[0] == BOS for window in found.windows]
    own = puts_bos and protocol is PerplexityProtocol.gptq and not begins
    assert first == ([begins] * 4 if not own else [True, False, False, False]), "as it was cut"
    # BOS stands before a whole window of text; where gptq has it, in place of a token.
    assert [BOS in window.tokens[1:] for window in found.windows] == [False] * 4


def test_bos_is_not_made_up(tmp_path: Path, letters: SimpleNamespace) -> None:
    letters.tokenizer = Letters(bos=None)
    for protocol in (PerplexityProtocol.spread, PerplexityProtocol.gptq):
        with pytest.raises(StageError, match=r"has no BOS: set eval.bos=auto"):
            protocol_text(protocol, excerpt(tmp_path, ["abcdefghijkl"], 4, 2, Bos.always))


def test_the_record_says_which_tokens_of_which_documents(
    tmp_path: Path, letters: SimpleNamespace
) -> None:
    documents = ["abcdefghij", "klmnopqrst", "uvw"]
    found = {
        protocol: protocol_text(protocol, excerpt(tmp_path, documents, 4, 4)).sample
        for protocol in PerplexityProtocol
    }
    assert {sample.documents_available for sample in found.values()} == {3}
    assert found[PerplexityProtocol.spread].sampling == "spread"
    assert found[PerplexityProtocol.spread].window_documents == [0, 0, 1, 1]
    leading = found[PerplexityProtocol.gptq]
    assert (leading.sampling, leading.window_documents) == ("leading", [0, 0, 0, 1])
    assert found[PerplexityProtocol.lm_eval].window_documents == [0, 0, 0, 1, 1]
    assert {sample.clusters for sample in found.values()} == {"documents"}
    assert leading.independent() == [0, 0, 0, 1]
    assert leading.independent(3) is None, "the first three are of one document"
    one = protocol_text(PerplexityProtocol.gptq, excerpt(tmp_path, documents[:1], 4, 2)).sample
    assert (one.documents, one.clusters, one.independent()) == (1, "windows", None)
    assert len({sample.tokens_sha256 for sample in [*found.values(), one]}) == 5
    # The same tokens, scored otherwise.
    windows = [Window([1, 2, 3], 2)]
    assert digest(windows) != digest([Window([1, 2, 3], 1)])
    assert digest(windows) == digest([Window([1, 2, 3], 2)])
    assert digest([Window([1, 2], 1), Window([3], 1)]) != digest(
        [Window([1], 1), Window([2, 3], 1)]
    )


def test_published_protocols_keep_windows_that_say_nothing_and_tell(
    tmp_path: Path, letters: SimpleNamespace
) -> None:
    prose = "It was a bright cold day in April, and the clocks were striking thirteen. " * 2
    documents = ["ha" * 200, prose, prose.upper()]
    kept = protocol_text(PerplexityProtocol.gptq, excerpt(tmp_path, documents, 64, 8))
    assert (kept.degenerate, kept.sample.left_out) == (6, 0)
    spread = protocol_text(PerplexityProtocol.spread, excerpt(tmp_path, documents, 64, 3))
    assert spread.degenerate == 0
    assert spread.sample.left_out
    assert not any(is_degenerate(window.tokens) for window in spread.windows)


def test_a_document_begins_with_bos_or_else_with_eos() -> None:
    tokenizer = Letters()
    assert prefix_token(tokenizer) == BOS
    tokenizer = Letters(bos=None)
    assert prefix_token(tokenizer) == EOS
    with pytest.raises(StageError, match="needs a BOS or EOS token, and the tokenizer has neither"):
        prefix_token(SimpleNamespace(bos_token_id=None, eos_token_id=None))
