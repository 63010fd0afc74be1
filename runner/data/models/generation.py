"""A model's generation settings; they do not affect its weights."""

import json
from pathlib import Path
from typing import Any

FILE = "generation_config.json"
_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")


def generation_options(directory: Path) -> dict[str, Any]:
    """Options of ``from_pretrained`` with which no generation_config.json stops a load.

    transformers refuses some of what they hold, and with it the model. Of such a file the special
    tokens are taken; the rest is what ``generate`` does by default.
    """
    if not (directory / FILE).is_file():
        return {}
    from transformers import GenerationConfig

    try:
        GenerationConfig.from_pretrained(directory)
    except OSError:  # the load goes by config.json
        return {}
    except Exception as error:  # whatever it finds
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        print(f"{directory / FILE} is not used, transformers refuses it: {reason}", flush=True)
        content = json.loads((directory / FILE).read_text("utf-8"))
        options = content if isinstance(content, dict) else {}
        ids = {name: options[name] for name in _IDS if isinstance(options.get(name), int | list)}
        return {"generation_config": GenerationConfig(**ids)}
    return {}
