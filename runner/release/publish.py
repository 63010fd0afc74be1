"""Sends an export to the hub."""

from pathlib import Path

from runner.errors import StageError, UsageError

_LOGIN = "log in with `hf auth login`, or set HF_TOKEN to a token that may write"


def require_repository(name: str) -> None:
    """See that a name is that of a repository.

    Raises:
        UsageError: It is not.
    """
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils._validators import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError as error:
        raise UsageError(f"{name} names no repository: {error}") from None
    if "/" not in name:
        raise UsageError(f"{name} names no repository: write ORG/NAME")


def send(folder: Path, repository: str, *, private: bool, revision: str | None, about: str) -> str:
    """Create a repository where there is none, and commit a folder to it; returns its address.

    Args:
        folder: All of its files are sent; others in the repository stay.
        repository: ``owner/name``.
        private: Whether a repository that is created is private. One that is public already is
            sent to only if this is false.
        revision: Branch; created where there is none. ``None`` for the main one.
        about: Message of the commit.

    Raises:
        UsageError: Nobody is logged in, may not write, or the repository is public unasked.
        StageError: The hub cannot be reached, or refuses.
    """
    import httpx
    from huggingface_hub import HfApi
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalTokenNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )

    api = HfApi()
    try:
        try:
            is_private = api.model_info(repository).private
        except RepositoryNotFoundError:
            api.create_repo(repository, private=private, exist_ok=True)
        else:
            if private and not is_private:
                raise UsageError(
                    f"{repository} is public, and everyone would see what is sent: "
                    "release.private=false says that you know"
                )
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        sent = api.upload_folder(
            repo_id=repository, folder_path=folder, revision=revision, commit_message=about
        )
    except LocalTokenNotFoundError:
        raise UsageError(f"nobody is logged in to the hub: {_LOGIN}") from None
    except OfflineModeIsEnabled:
        raise UsageError("HF_HUB_OFFLINE is set; unset it to publish") from None
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403):
            raise UsageError(f"the hub does not let you write to {repository}: {_LOGIN}") from None
        raise StageError(f"the hub refused {repository}: {error}") from error
    except (OSError, httpx.HTTPError) as error:
        raise StageError(f"the hub cannot be reached: {error}") from error
    return str(sent.commit_url)
