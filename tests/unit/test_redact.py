"""Credentials never reach a record, a log or a tracker."""

import json

import pytest

from runner.redact import MASK, redact, secrets

pytestmark = pytest.mark.unit

SECRET = "correct-horse-battery"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", SECRET)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("SHORT_TOKEN", "on")
    monkeypatch.setenv("NOT_HIDDEN", "plainly visible")


def test_secret_variables_are_found_by_name() -> None:
    found = secrets()
    assert SECRET in found
    assert "0123456789abcdef" in found
    assert "on" not in found, "too short to be one; masking it would garble text"
    assert "plainly visible" not in found


def test_values_are_masked_wherever_they_stand() -> None:
    value = {"url": f"https://user:{SECRET}@host/x", "list": [[SECRET], {"deep": f"a{SECRET}b"}]}
    assert SECRET not in json.dumps(redact(value))
    assert redact(value)["url"] == f"https://user:{MASK}@host/x"
    assert value["list"][0] == [SECRET], "the original is left alone"


@pytest.mark.parametrize("name", ["token", "hf_token", "api_key", "apikey", "Password", "secret"])
def test_fields_with_secret_names_are_masked(name: str) -> None:
    assert redact({name: "whatever it is"}) == {name: MASK}
    assert redact({name: None}) == {name: None}


@pytest.mark.parametrize(
    "text", [f"login with hf_{'a' * 30} please", f"key sk-{'b' * 30}", f"hf_{'A1' * 15}"]
)
def test_values_that_look_like_keys_are_masked(text: str) -> None:
    assert MASK in redact(text)
    assert "aaaa" not in redact(text) and "bbbb" not in redact(text) and "A1A1" not in redact(text)


@pytest.mark.parametrize(
    "harmless",
    [
        {"prompt_tokens": 64, "tokens_scored": 8},
        {"tokenizer": "a/path", "tokenizer_directory": "/models/x"},
        {"first_token": "x", "time_to_first_token_seconds": 0.2},
        {"method": "gptq", "bits": [4, 3.5, None, True]},
        "sk-short and hf_short stay",
    ],
)
def test_the_rest_stays(harmless: object) -> None:
    assert redact(harmless) == harmless
