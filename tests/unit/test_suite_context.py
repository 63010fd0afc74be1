"""Suites of long contexts and of scripts: items, and scores of right, wrong and hostile answers."""

import bz2
import functools
import random
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runner.data.task_items.copying import copying
from runner.data.task_items.copying.number_words import in_words, languages
from runner.data.task_items.copying.scripts import scripts
from runner.data.task_items.filler import hide, sentences, tokens_at_most
from runner.data.task_items.needle import needle
from runner.data.task_items.variables import most_hops, variables
from runner.errors import UsageError
from runner.evaluation.lm_eval.scorers import copying as copied
from runner.evaluation.lm_eval.scorers import needle as found
from runner.evaluation.lm_eval.scorers import variables as followed

pytestmark = pytest.mark.unit

Item = dict[str, Any]
MAKERS: dict[str, Callable[..., list[Item]]] = {
    "needle": needle,
    "variables": variables,
    "copying": copying,
}
SCORERS: dict[str, Callable[..., dict[str, float]]] = {
    "needle": found.process_results,
    "variables": followed.process_results,
    "copying": copied.process_results,
}
LEVELS = {
    "needle": (128, 256, 1024, 8192),
    "variables": (64, 128, 512, 8192),
    "copying": (*range(1, 10), 11),
}
EVERY = [(suite, level) for suite, levels in LEVELS.items() for level in levels]
HOSTILE = (
    "",
    " \n\n ",
    "9" * 50_000,
    "9," * 50_000,
    "12345" + " " * 50_000,
    "," * 50_000,
    "Answer:" * 20_000,
    "\x00\ud800\u202e",
    "٣" * 5,
    "NaN",
)


@functools.cache
def made(suite: str, level: int, dump: Path, count: int = 24, seed: str = "") -> list[Item]:
    chosen = random.Random(f"{suite} {level} {seed}")
    return MAKERS[suite]([dump], level, count, chosen)


@pytest.fixture(scope="module")
def dump(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Articles of which each sentence is another, some with a word in Greek or a digit."""
    pages = []
    for page in range(8):
        lines = [
            f"The {word} of the {'old ' * page}river was described in Ελλάδα{'ή' * page}. "
            f"People of {word.capitalize()}land have written about it since {1900 + page} or so. "
            f"Nobody knows what the {word} {'really ' * page}meant to those who lived beside it."
            for word in ("garden", "castle", "engine", "harbour", "theatre", "bridge")
        ]
        text = "\n\n".join(lines)
        pages.append(f"<page><ns>0</ns><revision><text>{text}</text></revision></page>")
    path = tmp_path_factory.mktemp("dump") / "dump.xml.bz2"
    path.write_bytes(bz2.compress(f"<mediawiki>{''.join(pages)}</mediawiki>".encode()))
    return path


@pytest.mark.parametrize(("suite", "level"), EVERY)
def test_items_are_seeded_distinct_and_of_one_shape(suite: str, level: int, dump: Path) -> None:
    items = made(suite, level, dump)
    chosen = random.Random(f"{suite} {level} ")
    assert MAKERS[suite]([dump], level, 24, chosen) == items
    assert len({item["text"] for item in items}) == len({i["target"] for i in items}) == 24
    assert made(suite, level, dump, seed="another") != items
    assert {item["level"] for item in items} == {level}
    keys = {(key, type(value)) for item in items for key, value in item.items()}
    assert keys == {(key, type(value)) for key, value in items[0].items()}
    assert {kind for _, kind in keys} <= {str, int}


@pytest.mark.parametrize(("suite", "level"), EVERY)
def test_targets_are_right_and_shuffled_ones_wrong(suite: str, level: int, dump: Path) -> None:
    items = made(suite, level, dump)
    score = SCORERS[suite]
    right = [score(item, [f" {item['target']}\nQuestion: 12345?"]) for item in items]
    assert all(set(one.values()) == {1.0} for one in right)
    for item, other, scores in zip(items, [*items[1:], items[0]], right, strict=True):
        wrong = score(item, [other["target"]])
        assert wrong["acc"] == 0.0
        assert wrong.keys() == scores.keys()


@pytest.mark.parametrize(
    ("suite", "level"), [(suite, levels[0]) for suite, levels in LEVELS.items()]
)
@pytest.mark.parametrize("answer", HOSTILE)
def test_hostile_answers_are_wrong(suite: str, level: int, answer: str, dump: Path) -> None:
    for item in made(suite, level, dump)[:2]:
        assert SCORERS[suite](item, [answer])["acc"] == 0.0
    assert SCORERS[suite](item, [])["acc"] == 0.0


@pytest.mark.parametrize("suite", ["needle", "variables"])
@pytest.mark.parametrize("level", [128, 512, 8192])
def test_a_level_is_a_length(suite: str, level: int, dump: Path) -> None:
    for item in made(suite, level, dump):
        length = tokens_at_most(item["text"] + item["target"])
        assert level - 80 < length <= level + 5


def test_every_code_asked_for_stands_in_the_text_and_no_other_key_is_the_same(dump: Path) -> None:
    items = made("needle", 1024, dump)
    for kind, codes in (("one", 1), ("keys", 17), ("values", 4)):
        of_kind = [item for item in items if item["kind"] == kind]
        assert len(of_kind) == 8
        for item in of_kind:
            key = item["text"].rsplit("of the ", 1)[1].split(" is")[0].split(" are")[0]
            told = [s for s in item["text"].split("\n\n")[0].split(". ") if "The code of" in s]
            of_key = [s for s in told if f"the {key} is" in s]
            assert len(told) == codes
            assert [s.rstrip(".")[-5:] for s in of_key] == item["target"].rstrip(".").split(", ")
            at = item["text"].index(of_key[0]) / item["text"].index("\n\n")
            assert item["depth_percent"] == pytest.approx(100 * at, abs=1.5)
    assert len({item["depth_percent"] for item in items}) > 12


def test_a_chain_leads_to_the_number_and_grows_with_the_level(dump: Path) -> None:
    assert [most_hops(level) for level in (32, 64, 128, 256, 8192)] == [0, 0, 1, 2, 7]
    for level in (64, 128, 512, 8192):
        for item in made("variables", level, dump):
            text, question = item["text"].split("\n\n")
            values = dict(
                sentence.rstrip(".").split("The value of ", 1)[1].split(" is ", 1)
                for sentence in text.replace(". ", ".\n").splitlines()
                if "The value of " in sentence
            )
            name, hops = question.split("\n")[0].split("value of ")[1][:3], 0
            while (value := values[name]).startswith("the value of "):
                name, hops = value[-3:], hops + 1
            assert (f"{value}.", hops) == (item["target"], item["hops"])
            assert sum(value.isdecimal() for value in values.values()) == item["chains"]
            assert item["chains"] == most_hops(level) + 2
    assert {item["hops"] for item in made("variables", 512, dump)} == {1, 2, 3}


@pytest.mark.parametrize(
    ("suite", "target", "answer", "scores"),
    [
        ("needle", "12345, 67890.", " 67890 and 12345. The code", {"acc": 1.0, "found": 1.0}),
        (
            "needle",
            "12345, 67890.",
            "The 2 codes are 12,345 and 67,890",
            {"acc": 1.0, "found": 1.0},
        ),
        ("needle", "12345, 67890.", "12345, 11111, 67890", {"acc": 0.0, "found": 0.5}),
        ("needle", "12345.", "123456", {"acc": 0.0, "found": 0.0}),
        ("variables", "12345.", "the value of ABC, which is 12,345", {"acc": 1.0}),
        ("variables", "12345.", "54321. No: 12345", {"acc": 0.0}),
        ("copying", "Ελλάδα, 12", "\n**Answer:** Ελλάδα ،12.\nText", {"acc": 1.0}),
        ("copying", "é", "e\u0301", {"acc": 1.0, "before_first_error": 1.0}),
        ("copying", "Ελλάδα", "Ελλάδι", {"acc": 0.0, "before_first_error": 5 / 6}),
        ("copying", "日本, 中国", "日本\uff0c中国", {"acc": 1.0}),
        ("copying", "123", "١٢٣", {"acc": 0.0, "before_first_error": 0.0}),
    ],
)
def test_other_ways_to_write_an_answer(
    suite: str, target: str, answer: str, scores: dict[str, float]
) -> None:
    found = SCORERS[suite]({"target": target, "rare": 0}, [answer])
    assert {key: found[key] for key in scores} == scores


def test_scripts_take_turns_and_their_names_and_digits_are_theirs(dump: Path) -> None:
    every = scripts()
    assert len(every) == 16
    for script in every:
        assert len(set(script.names)) == len(every[0].names) == 24
        letters = [unicodedata.name(c).split()[0] for name in script.names for c in name]
        assert set(letters) == {"CJK" if script.name == "Han" else script.name.upper()}
        if script.zero is not None:
            assert [unicodedata.decimal(chr(ord(script.zero) + n)) for n in range(10)] == [
                *range(10)
            ]
    items = made("copying", 1, dump, 32)
    assert all(sum(item["script"] == one.name for item in items) == 2 for one in every)
    groups = {
        (item["rare"], name)
        for item in items
        for name in copied.process_results(item, [""])
        if name in ("acc_rare", "acc_common")
    }
    assert groups == {(0, "acc_common"), (1, "acc_rare")}


def test_what_is_translated_is_so_by_the_list(dump: Path) -> None:
    for item in made("copying", 6, dump):
        listed, given = (line.split(": ")[1] for line in item["text"].splitlines()[1:3])
        pairs = dict(pair.split("=") for pair in listed.split())
        assert "".join(map(pairs.__getitem__, given)) == item["target"]
    for item in made("copying", 5, dump):
        listed, given = (line.split(": ")[1] for line in item["text"].splitlines()[1:3])
        both = [pair.split(" = ") for pair in listed.split(", ")]
        pairs = dict(both) | {b: a for a, b in both}
        assert ", ".join(pairs[name] for name in given.split(", ")) == item["target"]
    for item in made("copying", 9, dump):
        numbers = [int(n) for n in item["text"].splitlines()[1].removeprefix("Text: ").split(", ")]
        assert ", ".join(map(str, sorted(numbers))) == item["target"]


def test_numbers_in_words() -> None:
    said = [in_words(42, language) for language in languages()]
    assert said == ["forty-two", "cuarenta y dos", "k\u0131rk iki", "empat puluh dua",
                    "arobaini na mbili", "pedwar deg dau", "四十二", "사십이"]  # fmt: skip
    assert in_words(90, languages()[0]) == "ninety"


def test_words_of_the_dump_are_copied_too(dump: Path) -> None:
    items = made("copying", 1, dump, 400)
    assert len(items) < 400, "each word once"
    greek = {item["target"] for item in items if item["script"] == "Greek"}
    assert {"Ελλάδαή", "Ελλάδα"} <= greek


def test_filler_has_no_digit_and_what_is_hidden_keeps_its_order(dump: Path) -> None:
    among = sentences(dump)
    assert among
    assert not any(map(str.isdigit, "".join(sentence for sentence, _ in among)))
    text, depths = hide(["One.", "Two.", "Three."], among, 500, random.Random(0))
    assert text.index("One.") < text.index("Two.") < text.index("Three.")
    assert depths == sorted(depths)


@pytest.mark.parametrize("suite", ["needle", "variables"])
def test_a_level_that_has_no_room_is_told(suite: str, dump: Path) -> None:
    with pytest.raises(UsageError, match="a level is too short for what is hidden"):
        made(suite, 32, dump)


def test_a_dump_without_sentences_is_told(tmp_path: Path) -> None:
    path = tmp_path / "empty.xml"
    path.write_text("<mediawiki></mediawiki>")
    with pytest.raises(ValueError, match="no article has a sentence"):
        sentences(path)
