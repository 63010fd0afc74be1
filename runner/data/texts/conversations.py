"""Formats conversations with a model's chat template."""

from typing import Any

from runner.data.texts.documents import Message
from runner.errors import StageError

_SETTING = "calibration.apply_chat_template"
_WITHOUT = f"set {_SETTING}=false"


def require_template(tokenizer: Any, setting: str = _SETTING) -> None:
    """See that there is a template at all.

    Args:
        tokenizer: The model's.
        setting: Name of the setting that asks for it.

    Raises:
        StageError: There is none, or several and none of them is the default one.
    """
    template = tokenizer.chat_template
    if not template:
        raise StageError(f"the model has no chat template: set {setting}=false")
    if isinstance(template, dict) and "default" not in template:
        raise StageError(
            f"the model has chat templates ({', '.join(sorted(template))}), but none is called "
            f"default: set {setting}=false"
        )


def write_conversation(tokenizer: Any, messages: list[Message], place: str) -> str:
    """A conversation as running text, special tokens included.

    Args:
        tokenizer: The model's; its template decides.
        messages: The turns.
        place: Where they stand, for messages: ``line 3 of chat.jsonl``.

    Raises:
        StageError: The template refuses the conversation, or fails on it.
    """
    from jinja2.exceptions import TemplateError, TemplateSyntaxError

    try:
        written: str = tokenizer.apply_chat_template(messages, tokenize=False)
    except TemplateSyntaxError as error:
        raise StageError(
            f"the model's chat template is broken: {error.message} (line {error.lineno} of the "
            f"template); {_WITHOUT}"
        ) from None
    # Whatever an expression of a template may raise: a type, a key, a division.
    except Exception as error:
        reason = " ".join(str(error).split())
        roles = ", ".join(message["role"] for message in messages[:6])
        roles += ", …" if len(messages) > 6 else ""
        # raise_exception() of templates raises the base class itself; jinja2 raises its own kinds.
        refuses = type(error) is TemplateError
        what = (
            f"refuses it: {reason}" if refuses else f"fails on it: {type(error).__name__}: {reason}"
        )
        raise StageError(
            f"the conversation at {place} (roles: {roles or 'none'}) does not fit the model's chat "
            f"template, which {what}; change or drop the conversation, or {_WITHOUT}"
        ) from None
    return written
