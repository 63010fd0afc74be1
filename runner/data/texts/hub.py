"""Files of data sets on the hub."""

from pathlib import Path

from runner.config.schema.text import Text
from runner.data.models.files import require_inside
from runner.errors import StageError, UsageError


def hub_files(text: Text) -> list[Path]:
    """Files of a data set that match the text's pattern, after downloading what is missing.

    Only these files are fetched and no code of the data set runs. What an earlier call, or
    anything else that uses the hub's cache, has fetched is found without a network
    (``HF_HUB_OFFLINE=1``, ``HF_HOME``).

    Raises:
        UsageError: ``hub_id`` is no name, or a field is not told.
        StageError: The data set cannot be had.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    if not text.hub_id or not text.member:
        raise UsageError(f"text {text.name} needs hub_id and member (a pattern of its files)")
    if Path(text.member).is_absolute() or ".." in Path(text.member).parts:
        raise UsageError(f"text {text.name}: member={text.member} leads out of the data set")
    try:
        snapshot = snapshot_download(
            text.hub_id,
            repo_type="dataset",
            revision=text.revision,
            allow_patterns=[text.member],
        )
    except HFValidationError:
        raise UsageError(f"hub_id={text.hub_id} is not of the form owner/name") from None
    except GatedRepoError:
        raise StageError(
            f"data set {text.hub_id} is gated: accept its terms on the hub and set HF_TOKEN"
        ) from None
    except (RepositoryNotFoundError, RevisionNotFoundError):
        raise StageError(
            f"the hub has no data set {text.hub_id} at {text.revision or 'its main branch'}"
        ) from None
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise StageError(
            f"data set {text.hub_id} cannot be downloaded from the hub ({type(error).__name__}); "
            "check the network, or use a text that comes as a package or a file "
            "(openwebtext, bible, python_docs, local)"
        ) from None
    files = sorted(Path(snapshot).glob(text.member))
    if not files:
        raise StageError(f"data set {text.hub_id} has no file {text.member}")
    for file in files:
        require_inside(Path(snapshot), file)
    return files
