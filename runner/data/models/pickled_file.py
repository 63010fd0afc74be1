"""Inspects a pickled weights file without unpickling it."""

import io
import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from runner.util.given import MB, FileFault, open_regular, shown

_PACKED_AT_MOST = 1.1
"""How much more than its size a file may hold: torch stores tensors as they are."""
_MOST_PICKLE_BYTES = 64 * MB
"""Of what says which tensors there are; the tensors lie beside it."""
_PICKLES_AT_THE_START = 5
"""Of files as torch wrote them before version 1.6: a number, a version, the system, the object."""
_OF_TENSORS = ("torch", "collections", "numpy", "_codecs")
"""Packages whose names the pickle of a dictionary of tensors holds."""


def is_packed(file: Path) -> bool:
    """Whether a file is a zip file, as torch writes them since version 1.6."""
    return zipfile.is_zipfile(file)


def require_data(file: Path) -> None:
    """See that a file looks like torch's, and names nothing but what tensors are made of.

    What it may do when it is read is up to ``weights_only``; this is told earlier and better.

    Raises:
        FileFault: It is something else, unpacks to more than it is, or would call something.
    """
    with open_regular(file) as stream:
        start = stream.read(2)
    if not start.startswith((b"PK", b"\x80")):
        raise FileFault(file, "is empty, or not written by torch.save: download it again")
    try:
        names = sorted(set(_names(file)))
    except FileFault:
        raise
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, IndexError):
        raise FileFault(
            file, "is damaged, or not written by torch.save: download it again"
        ) from None
    if foreign := [name for name in names if name.partition(".")[0] not in _OF_TENSORS]:
        raise FileFault(
            file, f"contains more than tensors: it would call {shown(foreign[0])}; do not use it"
        )


def _names(file: Path) -> Iterator[str]:
    """Names that are looked up when a file is unpickled."""
    if not is_packed(file):
        with open_regular(file) as stream:
            for _ in range(_PICKLES_AT_THE_START):
                yield from _looked_up(stream, file)
        return
    with open_regular(file) as stream, zipfile.ZipFile(stream) as packed:
        entries = packed.infolist()
        total = sum(entry.file_size for entry in entries)
        if total > file.stat().st_size * _PACKED_AT_MOST:
            what = f"unpacks to {total / MB:.0f} MB, more than torch.save can have packed"
            raise FileFault(file, what)
        (pickle,) = (e for e in entries if Path(e.filename).name == "data.pkl")
        if pickle.file_size > _MOST_PICKLE_BYTES:
            raise FileFault(file, f"has a pickle of {pickle.file_size / MB:.0f} MB")
        yield from _looked_up(io.BytesIO(packed.read(pickle)), file)


def _looked_up(stream: BinaryIO, file: Path) -> Iterator[str]:
    for code, argument, _ in pickletools.genops(stream):
        if code.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")
        elif code.name == "STACK_GLOBAL":
            # Its name is made when it runs, and ``weights_only`` does not take it either.
            what = "is pickled by protocol 4 or later, which is not read as data"
            raise FileFault(file, f"{what}: save it by torch.save alone, or as safetensors")
