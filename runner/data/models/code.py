"""Python code that ships with a model: whether it is needed, trusted and complete."""

import functools
import importlib.util
import re
from pathlib import Path
from typing import Any

from runner.util.given import FileFault, read_object

_MAPPINGS = ("auto_mappings.py", "configuration_auto.py")


def code_complaint(
    directory: Path, config: dict[str, Any], *, trusted: bool, whole: bool
) -> str | None:
    """Why the classes of a model cannot be had, with the way out; ``None`` when they can.

    Args:
        directory: Where config.json lies, and what belongs to it.
        config: Its content.
        trusted: Whether ``model.trust_remote_code`` is set.
        whole: Whether all files are there; some are still to be fetched otherwise.
    """
    tokenizer = _tokenizer_map(directory)
    shipped = dict(config.get("auto_map") or {})
    kind, known = config.get("model_type"), native_types()
    native = known is None or kind in known
    if kind is None and "AutoConfig" not in shipped:
        return None  # transformers may guess by other keys, and says so when it cannot
    # Of code for classes that transformers has itself it only runs what it is told to trust.
    needed = {} if native else {k: v for k, v in shipped.items() if k != "AutoTokenizer"}
    if tokenizer and not _has_tokenizer(directory):
        needed["AutoTokenizer"] = tokenizer
    if not native and "AutoConfig" not in shipped:
        return (
            f"is of model_type {kind}, which this version of transformers does not know, and ships "
            "no code for it (auto_map in config.json): it needs a newer transformers, or a model "
            "of another architecture"
        )
    if not trusted:
        if not needed:
            return None
        return (
            f"needs the code that ships with it ({', '.join(map(str, needed.values()))}): read it, "
            "and set model.trust_remote_code=true if you vouch for it"
        )
    if tokenizer:
        shipped["AutoTokenizer"] = tokenizer
    return _absent(directory, shipped) if whole else None


def _absent(directory: Path, shipped: dict[str, Any]) -> str | None:
    for reference in shipped.values():
        where, _, rest = str(reference).rpartition("--")
        file = rest.partition(".")[0] + ".py"
        if where:
            return (
                f"uses code from {where} ({reference}), which can change unnoticed: put {file} "
                f"beside config.json and leave {where}-- out of auto_map"
            )
        if not (directory / file).is_file():
            return f"lacks {file}, which auto_map names as its code: download it"
    return None


def _tokenizer_map(directory: Path) -> str | None:
    """The class that a tokenizer's own configuration says its code has."""
    auto_map = _settings(directory).get("auto_map")
    tokenizer = auto_map.get("AutoTokenizer") if isinstance(auto_map, dict) else auto_map
    names = tokenizer if isinstance(tokenizer, list) else [tokenizer]
    return next((str(name) for name in reversed(names) if name), None)


def _has_tokenizer(directory: Path) -> bool:
    """Whether transformers reads a tokenizer without its code."""
    name = str(_settings(directory).get("tokenizer_class") or "").removesuffix("Fast")
    text = _auto("tokenization_auto.py")
    generic = ("PreTrainedTokenizer", "TokenizersBackend")
    return not text or name in generic or bool(name and f'"{name}' in text)


def _settings(directory: Path) -> dict[str, Any]:
    try:
        return read_object(directory / "tokenizer_config.json")
    except FileFault:  # it is told with the other faults of directories
        return {}


@functools.cache
def native_types() -> frozenset[str] | None:
    """Every ``model_type`` that transformers has code for; ``None`` when it is not installed here.

    Read off its files: to import it takes seconds.
    """
    text = "".join(map(_auto, _MAPPINGS))
    types = re.findall(r'"([\w.-]+)"[:,]\s*"(?!AutoConfig")\w+Config"', text)
    return frozenset(types) or None


def _auto(name: str) -> str:
    spec = importlib.util.find_spec("transformers")
    places = [] if spec is None else list(spec.submodule_search_locations or [])
    files = [Path(place) / "models" / "auto" / name for place in places]
    return "".join(file.read_text("utf-8") for file in files if file.is_file())
