"""A model's directory without the weights in it that are not meant."""

from pathlib import Path

from runner.models.weights import unread_weights
from runner.store.files import sha256_of_json

_PICKLES = (".bin", ".pt", ".pth", ".ckpt")


def only_read(directory: Path, cache: Path) -> Path:
    """The directory, or where it has other weights too, links to all else in it.

    Loaders differ in which they take: vLLM, GPTQModel and llama.cpp's converter read every
    ``*.safetensors`` file that they find. Without the others they all read the same.

    Args:
        directory: A model's.
        cache: Folder of the store for what can be made anew; links go into ``views/`` there.
    """
    unread = {path.name for path in unread_weights(directory)}
    if not unread:
        return directory
    view = cache / "views" / sha256_of_json([str(directory)])[:20] / directory.name
    view.mkdir(parents=True, exist_ok=True)
    wanted = {
        path.name: path.resolve()
        for path in directory.iterdir()
        if path.name not in unread and path.suffix not in _PICKLES
    }
    for link in view.iterdir():
        if link.name not in wanted or link.resolve() != wanted[link.name]:
            link.unlink(missing_ok=True)
    for name, target in wanted.items():
        if not (view / name).is_symlink():
            (view / name).symlink_to(target)
    return view


def without(directory: Path, name: str, place: Path) -> Path:
    """Links to all of a directory but one file.

    Args:
        directory: A model's.
        name: The file's.
        place: A folder that does not exist yet.
    """
    place.mkdir()
    for path in directory.iterdir():
        if path.name != name:
            (place / path.name).symlink_to(path.resolve())
    return place
