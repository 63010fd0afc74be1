"""Shapes of tokens, and assignments to secret names in text."""

import re
from collections.abc import Iterator

from runner.util.secrets.names import is_secret_name

MASK = "***"

_TOKENS = (
    ("hf_", r"\bhf_[A-Za-z0-9]{20,}"),
    ("sk-", r"\bsk-[A-Za-z0-9_-]{20,}"),
    ("gh", r"\bgh[pousr]_[A-Za-z0-9]{20,}"),
    ("github_pat_", r"\bgithub_pat_\w{20,}"),
    ("glpat-", r"\bglpat-[\w-]{16,}"),
    ("wandb_v", r"\bwandb_v\d+_\w{20,}"),
    ("KIA", r"\bAKIA[0-9A-Z]{16}\b"),
    ("SIA", r"\bASIA[0-9A-Z]{16}\b"),
    ("xox", r"\bxox[a-z]-[\w-]{10,}"),
    ("AIza", r"\bAIza[\w-]{35}"),
    ("npm_", r"\bnpm_[A-Za-z0-9]{36}"),
    ("pypi-", r"\bpypi-[\w-]{40,}"),
    ("eyJ", r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*)?"),
)
_SHAPES = tuple((hint, re.compile(pattern)) for hint, pattern in _TOKENS)
_PRIVATE_KEY = re.compile(
    r"-----BEGIN [A-Z0-9 ]*PRIVATE KEY( BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*-----|\Z)", re.DOTALL
)
OPENING = "-----BEGIN "
CLOSING = "-----END "
_USER = re.compile(r"([A-Za-z][A-Za-z0-9+.-]{0,20}://)[^\s/\"'<>]*[^\s/@\"'<>]@")
_SCHEME = re.compile(
    r"\b((?i:Bearer)\s+(?=[\w+/.~=-]*[\d_])|Basic\s+(?=[A-Za-z+/]*[\d=]))[\w+/.~=-]{8,}"
)
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization|(?:set-)?cookie|x-[\w-]{0,40}(?:key|token|secret))"
    r"(\\?[\"']?\s*:\s*\\?[\"']?)([^\s\"'\\][^\n\"'\\]*)",
    re.IGNORECASE,
)
_NAME = r"[A-Za-z_][\w.\-/@]*"
_QUOTED = r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'"
_ASSIGNED = re.compile(rf"(?<![\w.\-/@$])(-{{0,2}}{_NAME})(=)({_QUOTED}|[^\s,;&\"'\]\)}}]+)")
_IN_BRACES = re.compile(rf"(?<=[{{,])(\s*{_NAME})(\s*:\s*)({_QUOTED}|[^\s,;&\"'\]\)}}]+)")
_IN_QUOTES = re.compile(
    rf"(?<=[\"'])({_NAME})(\\?[\"']\s*:\s*)([\"'](?:[^\"'\\\n]|\\.)*[\"']|\\[\"'][^\"'\\\n]*\\[\"'])"
)
_OPTION = re.compile(r"(?<!\S)(--?[A-Za-z][\w-]*)(\s+)([^\s-]\S*)")
_LINE = re.compile(rf"^(\s*(?:- )?[\"']?{_NAME})([\"']?:[ \t]+)(\S.*)$", re.MULTILINE)
_LEAST_DIGITS = 6
_HARMLESS_VALUES = frozenset({"", MASK, "null", "none", "true", "false", "auto", "???"})


def mask_shapes(text: str) -> str:
    """A text without tokens, private keys, users of URLs, and values assigned to secret names."""
    if "PRIVATE KEY" in text:
        text = _PRIVATE_KEY.sub(MASK, text)
    for hint, pattern in _SHAPES:
        if hint in text:
            text = pattern.sub(MASK, text)
    if "://" in text and "@" in text:
        text = _USER.sub(rf"\1{MASK}@", text)
    text = _SCHEME.sub(rf"\1{MASK}", text)
    if ":" in text:
        text = _HEADER.sub(rf"\1\2{MASK}", text)
        text = _IN_BRACES.sub(_value_masked, text)
        text = _IN_QUOTES.sub(_value_masked, text)
    if "=" in text:
        text = _ASSIGNED.sub(_value_masked, text)
    if "-" in text:
        text = _OPTION.sub(_value_masked, text)
    return text


def assigned(text: str) -> Iterator[tuple[str, str]]:
    """Names and values of a mapping on one line, as an override writes it."""
    if "{" in text:
        for name, _, value in _IN_BRACES.findall(text):
            yield name.strip(), value.strip("\"'")


def mask_yaml(text: str) -> str:
    """A text in YAML without the values of secret names."""
    return _LINE.sub(_value_masked, text)


def _value_masked(found: re.Match[str]) -> str:
    name, sign, value = found.groups()
    inner = value.strip("\\\"'")
    if not is_secret_name(name.strip()) or is_no_secret(inner):
        return found[0]
    at = value.find(inner)
    return f"{name}{sign}{value[:at]}{MASK}{value[at + len(inner) :]}"


def is_no_secret(value: str) -> bool:
    """Whether a value under a secret name gives nothing away: none, a reference, a small number."""
    if value.lower() in _HARMLESS_VALUES or value.startswith("${"):
        return True
    return len(value) < _LEAST_DIGITS and value.replace(".", "", 1).isdigit()
