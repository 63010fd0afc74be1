"""Finds models that exist as files: local directories and hub repositories."""

import os
from pathlib import Path
from typing import Any

from runner.config.schema.model import Model, ModelKind
from runner.data.models.code import code_complaint
from runner.data.models.config_json import read_config
from runner.data.models.hub import cached_file, fetch_file, gguf_files, require_revision, told
from runner.data.models.weights import complaint, is_pickle, weight_files
from runner.errors import StageError, UsageError
from runner.util.given import shown, user_path

# No pickles, unless they are allowed and there is nothing else.
_WANTED = ["*.safetensors", "*.json", "*.jinja", "*.model", "tokenizer*", "vocab*", "merges*"]
_WANTED += ["*.txt", "*.tiktoken"]
_CODE = ["*.py"]
_PICKLED = ["pytorch_model*.bin"]
_TELLING = ["config.json", "tokenizer_config.json"]
"""What says whether a model needs code of its own."""
# Some repositories hold their weights a second time, in Meta's or Mistral's own layout.
_UNWANTED = ["consolidated*", "original/*", "onnx/*"]
_SHOWN = 8


def locate(model: Model) -> Path:
    """Directory of a local model, or of a hub model after downloading what is missing.

    Not of a model that is made of a GGUF file; see ``gguf_source``.

    Raises:
        UsageError: A local directory is not a model that can be used, or ``hub_id`` no name.
        StageError: A hub model cannot be had.
    """
    if model.kind is ModelKind.local:
        return _check_directory(model)
    require_revision(model)
    from huggingface_hub import snapshot_download

    def fetch(patterns: list[str]) -> Path:
        return Path(
            snapshot_download(
                str(model.hub_id),
                revision=model.revision,
                allow_patterns=patterns,
                ignore_patterns=_UNWANTED,
            )
        )

    with told(model):
        telling = fetch(_TELLING)
        if not (telling / "config.json").is_file() and (files := gguf_files(model)):
            raise UsageError(
                f"{model.hub_id} has no config.json, but {', '.join(files[:_SHOWN])}: choose "
                "one with model.file="
            )
        _check_code(telling, model, whole=False)
        path = fetch(_WANTED + (_CODE if model.trust_remote_code else []))
        if model.allow_pickle and not weight_files(path):
            path = fetch(_PICKLED)
    if problem := _complaint(path, model):
        raise StageError(f"{model.hub_id} {problem}")
    _check_code(path, model, whole=True)
    return path


def pickled(directory: Path, model: Model) -> bool:
    """Whether a directory that ``locate`` found has weights that are pickles."""
    return any(map(is_pickle, weight_files(directory, pickles=model.allow_pickle)))


def light_config(model: Model, *, bare: bool = False) -> dict[str, Any] | None:
    """Content of the model's config.json if it is on this machine already, without torch.

    Of a generated model it is what is said of it; the rest is transformers' defaults.

    Args:
        model: Of any kind.
        bare: Of a local model the config.json may be all there is.

    Raises:
        UsageError: A local directory is not a model that can be used, or ``hub_id`` no name.
    """
    path: Path | None = None
    if model.kind is ModelKind.generated:
        return dict(model.config) or None
    if model.kind is ModelKind.local:
        path = _config_json(model) if bare else _check_directory(model) / "config.json"
    elif model.kind is ModelKind.hub:
        path = cached_file(model, "config.json")
    if path is None:
        return None
    return read_config(path)


def fetched_config(model: Model) -> dict[str, Any]:
    """Content of a hub model's config.json, downloading that one file; empty of other models.

    Raises:
        UsageError: It cannot be had.
    """
    if model.kind is not ModelKind.hub or model.file is not None:
        return {}
    try:
        return read_config(fetch_file(model, "config.json"))
    except StageError as error:
        raise UsageError(
            f"the dimensions of {model.hub_id} are not known: {error}; a plan needs its "
            "config.json alone (model=local model.path=/its/config.json)"
        ) from None


def code_refusal(model: Model) -> str | None:
    """Why a model's classes cannot be had, by what of it is on this machine already.

    Raises:
        UsageError: A local directory is not a model that can be used, or ``hub_id`` no name.
    """
    if model.kind not in (ModelKind.local, ModelKind.hub):
        return None
    config = light_config(model)
    if config is None:
        return None
    if model.kind is ModelKind.local:
        directory = _check_directory(model)
    else:
        directory = Path(str(cached_file(model, "config.json"))).parent
    here = model.kind is ModelKind.local
    refusal = code_complaint(directory, config, trusted=model.trust_remote_code, whole=here)
    return f"{_named(model)} {refusal}" if refusal else None


def require_weights(model: Model) -> None:
    """See that a local model is there as a whole; any other is fetched when it is used.

    Raises:
        UsageError: It is not.
    """
    if model.kind is ModelKind.local:
        _check_directory(model)


def _config_json(model: Model) -> Path:
    """The config.json of a local model, which may be all there is of it."""
    place = user_path(str(model.path), "model.path")
    if place.suffix == ".json" and place.is_file():
        return place
    return _check_directory(model, bare=True) / "config.json"


def _check_code(directory: Path, model: Model, *, whole: bool) -> None:
    file = directory / "config.json"
    if not file.is_file():
        raise StageError(f"{_named(model)} has no config.json; it is not a Hugging Face model")
    config = read_config(file)
    refusal = code_complaint(directory, config, trusted=model.trust_remote_code, whole=whole)
    if refusal:
        raise StageError(f"{_named(model)} {refusal}")


def _named(model: Model) -> str:
    if model.kind is ModelKind.local:
        return f"model.path={model.path}"
    return str(model.hub_id)


def _complaint(directory: Path, model: Model, *, bare: bool = False) -> str | None:
    return complaint(
        directory,
        trust_remote_code=model.trust_remote_code,
        allow_pickle=model.allow_pickle,
        bare=bare,
    )


def _check_directory(model: Model, *, bare: bool = False) -> Path:
    directory = user_path(str(model.path), "model.path")
    if directory.suffix == ".json" and directory.is_file():
        raise UsageError(
            f"model.path={shown(model.path)} is a file without weights, which is enough for "
            "stages=[plan]; give the model's directory"
        )
    if not directory.is_dir():
        raise UsageError(f"model.path={shown(model.path)} is not a directory")
    if not os.access(directory, os.R_OK | os.X_OK):
        raise UsageError(f"model.path={shown(model.path)} cannot be read: permission denied")
    problem = _complaint(directory, model, bare=bare)
    # An adapter has no config.json, and is to be called what it is.
    if not (directory / "config.json").is_file() and "adapter" not in (problem or ""):
        raise UsageError(
            f"model.path={model.path} has no config.json; it is not a Hugging Face model"
        )
    if problem:
        raise UsageError(f"model.path={model.path} {problem}")
    return directory.resolve()
