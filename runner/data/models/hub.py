"""Downloads from the Hugging Face hub, and messages when they fail."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

from runner.config.schema.model import Model
from runner.errors import StageError, UsageError
from runner.util.given import shown

_WORD = r"[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*"
_PLAIN_ID = re.compile(rf"(?:{_WORD}/)?{_WORD}(?<!\.git)")
"""Names that are surely names of the hub's; whether others are its library says."""


@contextlib.contextmanager
def told(model: Model) -> Iterator[None]:
    """Turn what the hub's library raises into one sentence with the way out.

    Raises:
        UsageError: ``hub_id`` is no name.
        StageError: The repository or a file of it cannot be had.
    """
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        yield
    except HFValidationError:
        raise no_hub_name(model) from None
    except GatedRepoError:
        raise StageError(
            f"{model.hub_id} is gated: accept its licence on the hub and set HF_TOKEN"
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise StageError(
            f"the hub has no {model.hub_id} at {model.revision}: check model.hub_id and "
            "model.revision, or set HF_TOKEN if it is private"
        ) from None
    except RemoteEntryNotFoundError:
        named = "config.json" if model.file is None else model.file
        raise StageError(
            f"{model.hub_id} has no file {named} at {model.revision}: check model.file"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise StageError(
            f"{model.hub_id} cannot be downloaded from the hub ({type(error).__name__}); check the "
            "network, or use a copy with model=local model.path=/its/directory"
        ) from None


def fetch_file(model: Model, name: str) -> Path:
    """One file of a model's repository, downloaded on first use.

    Raises:
        UsageError: ``hub_id`` is no name.
        StageError: It cannot be had.
    """
    require_revision(model)
    from huggingface_hub import hf_hub_download

    with told(model):
        return Path(hf_hub_download(str(model.hub_id), name, revision=model.revision))


def cached_file(model: Model, name: str) -> Path | None:
    """One file of a model's repository, if it is on this machine already.

    Raises:
        UsageError: ``hub_id`` is no name.
    """
    require_revision(model)
    from huggingface_hub.constants import HF_HUB_CACHE

    # The library's own look imports a client of HTTP, which takes a fifth of a second.
    name_of_folder = f"models--{model.hub_id}".replace("/", "--")
    if _PLAIN_ID.fullmatch(str(model.hub_id)) and not Path(HF_HUB_CACHE, name_of_folder).exists():
        return None
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        path = try_to_load_from_cache(str(model.hub_id), name, revision=model.revision)
    except HFValidationError:
        raise no_hub_name(model) from None
    return Path(path) if isinstance(path, str) else None


def gguf_files(model: Model) -> list[str]:
    """Names of the GGUF files of a repository; empty where the hub does not say."""
    from huggingface_hub import list_repo_files
    from huggingface_hub.errors import HfHubHTTPError

    try:
        names = list_repo_files(str(model.hub_id), revision=model.revision)
    except (HfHubHTTPError, OSError):
        return []
    return sorted(name for name in names if name.endswith(".gguf"))


def require_revision(model: Model) -> None:
    """See that a revision can be one: the hub's cache has files of that name.

    Raises:
        UsageError: It cannot.
    """
    revision = model.revision
    if (
        not revision
        or revision.startswith(("/", "-"))
        or ".." in revision
        or not revision.isprintable()
    ):
        raise UsageError(
            f"model.revision={shown(revision)} is not a branch, tag or commit of the repository"
        )


def no_hub_name(model: Model) -> UsageError:
    """What to say of a ``hub_id`` that cannot be one."""
    return UsageError(f"model.hub_id={model.hub_id} is not of the form owner/name")
