"""Numbers from 31 to 99 in words, in languages that build them from tens and ones."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """How a language says numbers."""

    ones: tuple[str, ...]
    """From one to nine."""
    tens: tuple[str, ...]
    """From thirty to ninety."""
    between: str
    """What joins tens and ones."""
    script: str = "Latin"
    rare: bool = False
    """Whether little of the text that models are usually trained on is in it."""


def languages() -> list[Language]:
    """English, Spanish, Turkish, Indonesian, Swahili, Welsh, Chinese and Korean."""
    return [
        _language(
            "one two three four five six seven eight nine",
            "thirty forty fifty sixty seventy eighty ninety",
            "-",
        ),
        _language(
            "uno dos tres cuatro cinco seis siete ocho nueve",
            "treinta cuarenta cincuenta sesenta setenta ochenta noventa",
            " y ",
        ),
        _language(
            "bir iki üç dört beş altı yedi sekiz dokuz",
            "otuz kırk elli altmış yetmiş seksen doksan",
            " ",
        ),
        _language(
            "satu dua tiga empat lima enam tujuh delapan sembilan",
            "tiga_puluh empat_puluh lima_puluh enam_puluh tujuh_puluh delapan_puluh sembilan_puluh",
            " ",
        ),
        _language(
            "moja mbili tatu nne tano sita saba nane tisa",
            "thelathini arobaini hamsini sitini sabini themanini tisini",
            " na ",
            rare=True,
        ),
        _language(
            "un dau tri pedwar pump chwech saith wyth naw",
            "tri_deg pedwar_deg pum_deg chwe_deg saith_deg wyth_deg naw_deg",
            " ",
            rare=True,
        ),
        _language("一 二 三 四 五 六 七 八 九", "三十 四十 五十 六十 七十 八十 九十", "", "Han"),
        _language("일 이 삼 사 오 육 칠 팔 구", "삼십 사십 오십 육십 칠십 팔십 구십", "", "Hangul"),
    ]


def in_words(number: int, language: Language) -> str:
    """A number from 30 to 99 as a language writes it."""
    tens = language.tens[number // 10 - 3]
    return tens if number % 10 == 0 else tens + language.between + language.ones[number % 10 - 1]


def _language(
    ones: str, tens: str, between: str, script: str = "Latin", rare: bool = False
) -> Language:
    """Of words parted by spaces, with ``_`` for a space within one."""
    said = tuple(word.replace("_", " ") for word in tens.split())
    return Language(tuple(ones.split()), said, between, script, rare)
