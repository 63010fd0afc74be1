"""Names of variables, fields and options whose values are secret.

A name is judged by its words: ``max_tokens``, ``tokenizer`` and ``eos_token`` name no secret,
``hf_token``, ``apiKey`` and ``PGPASSWORD`` do.
"""

import functools
import re


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_ALWAYS = ("password", "passwords", "passwd", "passphrase", "secret", "secrets", "credential",
           "credentials", "apikey", "apikeys")  # fmt: skip
"""Ends of words that tell by themselves."""
_WHOLE = frozenset({"pwd", "authorization", "bearer"})
_ABOUT = _set(
    "path paths file files filename dir directory folder sock socket id ids host len length count "
    "name names type types size loss losses policy seconds url uri bits bytes scale scales "
    "embedding embeddings index position positions"
)
"""Last words of names that tell something of a secret, or where it lies, and not the secret."""
_NO_CREDENTIAL = _set(
    "eos bos pad padding unk sep cls mask special first last next inter per new previous current "
    "each one stop start end begin extra image audio video time prompt output input added fim "
    "prefix suffix middle decoder forced suppress sot eot boi eoi media vision placeholder "
    "separator think cached word single every top draft speculative"
)
"""Words in front of ``token`` that make it a piece of text."""
_GOES_ON = frozenset({"value", "secret", "key", "string", "str", "prod", "dev", "test", "header"})
_KEY_OF_DATA = _set(
    "cache kv sort primary foreign group store object row dict model config field metric state "
    "public by hash index lookup checkpoint attention query value per no the a of result record "
    "entry column json map mapping lock stage run sweep option choice"
)
"""Words in front of ``key`` that make it a name or an address."""
_OPENS_DOORS = _set(
    "api access secret private ssh rsa gpg signing encryption auth account service master admin "
    "user team session subscription storage shared license deploy login server tracker mirror "
    "proxy database db hf hub wandb trackio openai anthropic azure aws gcp google github gitlab "
    "slack"
)
"""Words in front of ``key`` that make it a credential, also in a field's name."""
_WORKING_DIRECTORIES = ("PWD", "OLDPWD")


@functools.lru_cache(maxsize=10_000)
def is_secret_name(name: str) -> bool:
    """Whether what stands under a name is a secret.

    Args:
        name: Of a variable, a field or an option. Of a path such as ``a.b.c`` the last part
            counts, and what it belongs to where that part is ``key`` alone.
    """
    name = name.strip("+~- ")
    path, _, last = name.rpartition(".")
    if last in _WORKING_DIRECTORIES:
        return False
    words = [word.lower() for word in _WORDS.findall(last)]
    while len(words) > 1 and words[-1].isdigit():
        words.pop()
    if not words or words[-1] in _ABOUT:
        return False
    if any(word.endswith(_ALWAYS) or word in _WHOLE for word in words):
        return True
    is_variable = last.isupper()
    return (
        _is_auth(words)
        or _is_token(words, is_variable)
        or _is_key(words, path, is_variable)
        or (is_variable and words[-1] in ("pass", "pat"))
    )


def always_secret(name: str) -> bool:
    """Whether not even a number under this name is harmless, as one of a token's may be."""
    words = [word.lower() for word in _WORDS.findall(name.rpartition(".")[2])]
    return is_secret_name(name) and any(word.endswith(_ALWAYS) or word in _WHOLE for word in words)


def _is_auth(words: list[str]) -> bool:
    return words[-1] in ("auth", "cookie") or words[-2:] in (["auth", "header"], ["auth", "value"])


def _is_token(words: list[str], is_variable: bool) -> bool:
    if words[-1] == "tokens":
        return words[-2:-1] in (["api"], ["access"], ["auth"], ["refresh"], ["bearer"])
    places = [
        place
        for place, word in enumerate(words)
        if word == "token" or (is_variable and word.endswith("token"))
    ]
    if not places or _NO_CREDENTIAL.intersection(words[: places[-1]]):
        return False
    rest = words[places[-1] + 1 :]
    return not rest or is_variable or rest[0] in _GOES_ON


def _is_key(words: list[str], path: str, is_variable: bool) -> bool:
    if words[-1] not in ("key", "keys"):
        return False
    if len(words) > 1:
        # A field's name says "key" of many a thing; a variable's seldom.
        is_other = is_variable and words[-1] == "key" and not _KEY_OF_DATA.intersection(words[:-1])
        return words[-2] in _OPENS_DOORS or is_other
    return bool(_OPENS_DOORS.intersection(path.rpartition(".")[2].lower().split("_")))
