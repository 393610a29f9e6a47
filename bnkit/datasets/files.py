"""What the files of every data set share: digests, and the errors for files missing or altered."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from bnkit import paths


class DataError(Exception):
    """A data set cannot be had, or a file is not what it should be; the message says what to do."""


def digest_of(digests: Iterable[str]) -> str:
    """One SHA-256 over several, so that bytes cannot move from one content to the next unseen."""
    return hashlib.sha256(b"".join(map(bytes.fromhex, digests))).hexdigest()


def file_digest(path: Path, on_bytes: Callable[[int], object] | None = None) -> str:
    """SHA-256 of one file; `on_bytes` hears how many more bytes were read."""
    state = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(1 << 20):
            state.update(piece)
            if on_bytes:
                on_bytes(len(piece))
    return state.hexdigest()


def size_of(path: Path) -> int | None:
    """In bytes; None where there is no such file."""
    return path.stat().st_size if path.is_file() else None


DIGITS = "choose the data set 'digits', which needs no file"


def not_here(
    name: str, files: Iterable[str], other: str, also: str = "", otherwise: str = DIGITS
) -> DataError:
    """No folder has the `files` of data set `name`; `other` is a third way to get them.

    `otherwise` is what to do without them.
    """
    folders = paths.data_folders(name)
    looked = "\n".join(f"  {folder}" for folder in folders)
    return DataError(
        f"{name} is not here. Looked in\n{looked}\n{also}Three remedies:\n"
        f"  1. {other};\n"
        f"  2. put {', '.join(files)} into {folders[-1]}, or into <folder>/{name}/ and set "
        "BNKIT_DATA=<folder>;\n"
        f"  3. {otherwise}."
    )


def altered(path: Path, expected: tuple[int | None, str], found: str, remedy: str) -> DataError:
    """The file at `path` has another SHA-256 than it should; `expected` are bytes and SHA-256.

    The bytes are None where nobody has told how many there should be.
    """
    size, digest = expected
    size = f" ({size:,} bytes)" if size is not None else ""
    return DataError(
        f"{path} is missing, truncated or altered; what is there is left as it is and not used.\n"
        f"  expected SHA-256 {digest}{size}\n"
        f"  found    SHA-256 {found} ({size_of(path) or 0:,} bytes)\n"
        f"{remedy}"
    )
