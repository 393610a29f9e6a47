"""Files that somebody publishes, with their digests: found on disk, else downloaded, never another.

A download that was cut short leaves nothing that looks whole; what had arrived whole is kept, so
that the same command goes on with the files that are missing.
"""

import hashlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from bnkit import paths
from bnkit.datasets.files import DataError, altered, not_here

TIMEOUT = (5, 20)  # seconds to connect, and of silence: without a network the error comes soon


class Source(NamedTuple):
    """A published set of files."""

    name: str
    """Of its folder, in ``$BNKIT_DATA`` or the cache."""
    mirrors: tuple[str, ...]
    """Addresses before a file's name, tried in turn."""
    files: Iterable[str]
    """The names of all of them, for the error that lists what to put where."""
    otherwise: str
    """The third remedy in that error: what to do without the set."""


def find(name: str, file: str) -> Path | None:
    """Where a file of the set `name` lies, or None."""
    places = (folder / file for folder in paths.data_folders(name))
    return next((place for place in places if place.is_file()), None)


def content(source: Source, file: str, digest: str, size: int | None = None) -> bytes:
    """The content of one file, found or downloaded: the very bytes that were hashed.

    `size`, in bytes, is told in the error. Raises DataError for an altered or unreadable file, and
    where it is nowhere and cannot be downloaded.
    """
    path = find(source.name, file) or _download(source, file, digest)
    try:
        read = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    if (found := hashlib.sha256(read).hexdigest()) != digest:
        remedy = "Move it away: a good copy in another folder is used, or a fresh one downloaded."
        raise altered(path, (size, digest), found, remedy)
    return read


def _download(source: Source, file: str, digest: str) -> Path:
    """Fetch a file into the cache, from the first mirror with the published bytes, whole or not."""
    import filelock
    import pooch
    import requests

    # the errors below say it all, and a chapter must not write to stderr
    pooch.get_logger().setLevel("ERROR")
    # else a server may "helpfully" unpack a .gz on the way
    asked = {"headers": {"Accept-Encoding": "identity"}, "timeout": TIMEOUT}
    download = pooch.HTTPDownloader(progressbar=sys.stderr.isatty(), **asked)
    folder, problems = paths.cache() / source.name, []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / ".lock"):
            for mirror in source.mirrors:
                # asks nobody if another process fetched the file while this one waited for the lock
                try:
                    known = f"sha256:{digest}"
                    pooch.retrieve(mirror + file, known, file, folder, downloader=download)
                    return folder / file
                # pooch: ValueError for other bytes
                except (requests.RequestException, ValueError) as error:
                    problems.append(f"  {mirror + file}: {_cause(error)}\n")
    except OSError as error:
        why = error.strerror or error
        raise DataError(f"{source.name} cannot be downloaded into {folder}: {why}") from error
    tried = f"{file} could not be downloaded; tried\n{''.join(problems)}"
    connect = "connect to the internet and try again"
    raise not_here(source.name, source.files, connect, tried, source.otherwise)


def _cause(error: Exception) -> str:
    """The reason in one line, out of the wrapping that says host and port a second time."""
    reason = getattr(error.args[0], "reason", error) if error.args else error
    return (str(reason).rpartition("): ")[2] or type(error).__name__).splitlines()[0]
