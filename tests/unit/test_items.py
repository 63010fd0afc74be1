"""Items of our own tasks, made from small files in the packages' formats."""

import bz2
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.config.schema.tasks import Items, ItemsMaker
from runner.data.task_items.addition import additions
from runner.data.task_items.facts import facts
from runner.data.task_items.make import make_items
from runner.data.task_items.replies import replies
from runner.data.task_items.wikipedia import continuations, last_words, next_sentences
from runner.data.task_items.wordnet import definitions, kinds
from runner.data.texts import decoding
from runner.errors import StageError, UsageError
from runner.util.given import FileFault

pytestmark = pytest.mark.unit

Maker = Callable[[list[Path], int, random.Random], list[dict[str, Any]]]

ANALOGIES = """: capital-world
Athens Greece Oslo Norway
Oslo Norway Paris France
Paris France Rome Italy
: city-in-state
Dallas Texas Miami Florida
Boston Massachusetts Reno Nevada
: gram6-nationality-adjective
Albania Albanian Brazil Brazilian
Chile Chilean Denmark Danish
: family
boy girl king queen
"""

NOUNS = """  1 This is the licence.
00000001 05 n 01 animal 0 000 | a living being that moves of itself; "animals breathe"
00000002 05 n 02 canine 0 canid 0 001 @ 00000001 n 0000 | a mammal with fissiped paws and long teeth
00000003 05 n 02 dog 0 domestic_dog 0 001 @ 00000002 n 0000 | barks and was kept by man for ages
00000004 05 n 01 cat 0 001 @ 00000001 n 0000 | a small animal that purrs and is kept in houses
00000005 06 n 01 tool 0 000 | something made for a purpose by hand
00000006 05 n 01 horse 0 001 @ 00000001 n 0000 | runs fast and carries people on its back
00000007 05 n 01 cow 0 001 @ 00000008 n 0000 | gives milk and eats grass on a meadow
00000008 05 n 01 ruminant 0 001 @ 00000001 n 0000 | chews what it has eaten once before
00000009 06 n 01 hammer 0 001 @ 00000005 n 0000 | drives nails into wood or walls
"""
COUNTS = "".join(
    f"{word}%1:{field}:00:: 1 9\n"
    for word, field in [
        ("dog", "05"), ("cat", "05"), ("horse", "05"), ("cow", "05"), ("hammer", "06"),
        ("canine", "05"),
    ]
)  # fmt: skip


@pytest.fixture
def wordnet(tmp_path: Path) -> list[Path]:
    (tmp_path / "data.noun").write_text(NOUNS)
    (tmp_path / "cntlist.rev").write_text(COUNTS)
    return [tmp_path / "data.noun", tmp_path / "cntlist.rev", tmp_path / "LICENSE"]


@pytest.fixture
def dump(tmp_path: Path) -> list[Path]:
    def paragraph(topic: str) -> str:
        return (
            f"The {topic} is a thing that many people have written about at great length. "
            f"It has been known since the old days and is described in several large books. "
            f"Some say that nobody understands the {topic} as well as the old writers did. "
            f"Others have shown that this opinion about the {topic} rests on an old mistake. "
            f"Whoever wants to learn more should go and look closely at the {topic}."
        )

    topics = ("river", "garden", "castle", "engine", "harbour", "theatre")
    pages = "".join(
        f"<page><title>{topic}</title><ns>0</ns><revision><text>"
        + "\n\n".join([paragraph(topic), paragraph(f"{topic} of old")])
        + "</text></revision></page>"
        for topic in topics
    )
    path = tmp_path / "dump.xml.bz2"
    path.write_bytes(bz2.compress(f"<mediawiki>{pages}</mediawiki>".encode()))
    return [path]


def right(item: dict[str, Any]) -> str:
    return str(item["choices"][item["answer"]])


def test_facts_are_pairs_of_words_among_answers_of_their_kind(tmp_path: Path) -> None:
    path = tmp_path / "questions-words.txt"
    path.write_text(ANALOGIES)
    items = {item["text"]: item for item in facts([path], 4, random.Random(0))}
    assert right(items["The capital of Norway is"]) == "Oslo"
    assert right(items["Dallas is a city in the American state of"]) == "Texas"
    assert right(items["The nationality of someone from Denmark is"]) == "Danish"
    assert set(items["The capital of Norway is"]["choices"]) == {"Athens", "Oslo", "Paris", "Rome"}
    assert len(items) == 12
    assert not any("queen" in item["choices"] for item in items.values())


def test_definitions_do_not_contain_the_word_and_stay_in_the_field(wordnet: list[Path]) -> None:
    items = definitions(wordnet, 4, random.Random(0))
    words = {right(item): item for item in items}
    assert set(words) == {"dog", "cat", "horse", "cow", "canine"}  # tools are too few
    assert words["cat"]["text"].endswith("kept in houses.\nWord:")
    assert "hammer" not in {choice for item in items for choice in item["choices"]}


def test_what_is_indirectly_above_a_noun_is_no_wrong_answer(wordnet: list[Path]) -> None:
    items = {item["text"]: item for item in kinds(wordnet, 2, random.Random(0))}
    dog = items["A dog is a kind of"]
    assert right(dog) == "canine"
    assert "animal" not in dog["choices"]
    assert right(items["A hammer is a kind of"]) == "tool"


def test_the_next_sentence_is_the_fourth_and_others_are_of_other_articles(dump: list[Path]) -> None:
    items = next_sentences(dump, 4, random.Random(0))
    assert len(items) == 12
    for item in items:
        topic = item["text"].split(" is ")[0].removeprefix("The ")
        assert right(item).startswith("Others have shown") and topic in right(item)
        for choice in item["choices"]:
            assert choice == right(item) or topic.split()[0] not in choice


def test_the_last_word_occurred_before_and_is_taken_away(dump: list[Path]) -> None:
    items = last_words(dump, 4, random.Random(0))
    assert items
    for item in items:
        assert item["target"] in item["text"].split()
        assert not item["text"].endswith((".", item["target"]))


def test_a_continuation_is_what_followed_the_first_words_of_a_paragraph(dump: list[Path]) -> None:
    items = continuations(dump, 4, random.Random(0))
    assert len(items) == 12
    for item in items:
        assert len(item["text"].split()) == 32
        assert item["text"].startswith("The ")
        assert item["target"].endswith(".")
    assert len({item["text"] for item in items}) == 12


def test_instructions_are_of_common_nouns_and_all_kinds(wordnet: list[Path]) -> None:
    texts = [item["text"] for item in replies(wordnet, 4, random.Random(0))]
    assert texts == [item["text"] for item in replies(wordnet, 4, random.Random(0))]
    assert len(set(texts)) == len(texts) > 100
    nouns = ("dog", "cat", "horse", "cow", "hammer", "canine")
    assert all(any(f"“{noun}”" in text for noun in nouns) for text in texts)
    assert not any("{" in text for text in texts)


def test_sums_are_right_and_the_misses_wrong() -> None:
    for item in additions([], 4, random.Random(0))[::97]:
        left, plus, other, equals = item["text"].split()
        assert (plus, equals) == ("+", "=")
        assert int(right(item)) == int(left) + int(other)
        assert len(set(item["choices"])) == 4


def test_the_same_settings_give_the_same_items_and_another_seed_others(tmp_path: Path) -> None:
    def made(**changed: Any) -> tuple[list[Any], list[Any]]:
        found = make_items(Items(maker=ItemsMaker.addition, count=50, **changed), tmp_path)
        assert not found.pilot, "it has no levels"
        return found.scored, found.examples

    assert made() == made()
    assert made() != made(seed=1)
    items, apart = made()
    assert (len(items), len(apart)) == (50, 16)
    # More examples do not change which items come first.
    assert made(examples=3)[0] == items


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"text": "a", "choices": ["b", "c"], "answer": 2}', "index of the right one"),
        ('{"text": "a", "choices": "b"}', "a list of texts"),
        ('{"question": "a"}', "an item must be an object with a text"),
        ("not json", "line 1 is not JSON"),
        ('{"text": "a", "target": 3}', "target must be a text"),
        ("", "has 0 items"),
    ],
)
def test_items_of_ones_own_are_looked_at(content: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(content)
    with pytest.raises(UsageError, match=said):
        make_items(Items(maker=ItemsMaker.jsonl, path=str(path), examples=0), tmp_path)


def test_items_of_ones_own_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    lines = [{"text": str(n), "choices": ["x", "y"], "answer": n % 2} for n in range(9)]
    path.write_text("\n".join(map(json.dumps, lines)))
    made = make_items(Items(maker=ItemsMaker.jsonl, path=str(path), examples=2), tmp_path)
    assert [item["text"] for item in made.scored] == list("0123456")
    assert [item["id"] for item in made.examples] == [7, 8]


def test_a_noun_of_no_kind_is_asked_nothing_of(wordnet: list[Path]) -> None:
    wordnet[1].write_text(f"{COUNTS}animal%1:05:00:: 1 9\n")
    asked = {item["text"] for item in kinds(wordnet, 2, random.Random(0))}
    assert "A cat is a kind of" in asked
    assert "An animal is a kind of" not in asked


@pytest.mark.parametrize(
    ("items", "error", "said"),
    [
        (
            Items(ItemsMaker.addition, examples=10**9),
            StageError,
            r"maker addition made \d+ items on",
        ),
        (Items(ItemsMaker.facts), UsageError, "items of maker facts need path or package"),
        (Items(ItemsMaker.jsonl), UsageError, "items of maker jsonl need path$"),
        (Items(ItemsMaker.facts, path="/absent"), UsageError, "there is no file /absent"),
        (
            Items(ItemsMaker.facts, package="gensim", version="4"),
            UsageError,
            "items from package gensim need version, members and sha256",
        ),
    ],
)
def test_items_that_cannot_be_made_are_told(
    items: Items, error: type[Exception], said: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=said):
        make_items(items, tmp_path)


def test_a_fault_of_a_file_of_ones_own_is_told_as_it_is(
    dump: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoding, "_ALWAYS_BYTES", 10)
    monkeypatch.setattr(decoding, "_MOST_TIMES", 1)
    with pytest.raises(FileFault, match=r"dump\.xml\.bz2 unpacks to more than"):
        make_items(Items(ItemsMaker.last_word, path=str(dump[0])), tmp_path)
