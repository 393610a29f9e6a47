"""Trees of pictures, ``train/<class>/*`` and ``val/<class>/*``, in a folder, a .zip or a .tgz.

Nothing is ever extracted, and a name inside an archive is never used as a path. A tree is checked
before its first picture is opened: the same classes in both parts, and no file unexplained.
"""

import csv
import errno
import gzip
import hashlib
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bnkit.datasets.files import DataError, digest_of, file_digest

PARTS = ("train", "val")
# of one picture's file: ImageNet's largest has 16 MB; more is a mistake or an attack
MAX_BYTES = 100_000_000
SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"}
)
# files that come with pictures
_BESIDE = frozenset({".txt", ".csv", ".md", ".json", ".xml", ".html", ".db", ".ini"})
_CLASSES, _ANNOTATIONS = "classes.csv", "val_annotations.txt"
_BAD = (zipfile.BadZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError)
_LAYOUT = "a tree holds train/<class>/<picture> and val/<class>/<picture>"

Reader = Callable[[], bytes]


class Member(NamedTuple):
    """One file or folder of a tree, as its container names it."""

    name: str
    """With "/" between its pieces, relative to the container."""
    size: int = 0
    """In bytes."""
    changed: int = 0
    """When, in nanoseconds since 1970; of files in folders only."""
    folder: bool = False
    """Whether it is a folder."""
    content: bytes = b""
    """Of the two small files that explain a tree, and of no other."""


class Picture(NamedTuple):
    """One picture of a tree."""

    part: str
    """train or val."""
    label: int
    """The place of its class in ``Tree.classes``."""
    name: str
    """As the container names it."""
    size: int
    """In bytes."""


@dataclass(frozen=True)
class Tree:
    """A checked tree: what it holds, and how to read it."""

    container: "Folder | Archives"
    # by part, class and name: the same tree gives the same arrays however it is packed
    pictures: tuple[Picture, ...]
    classes: tuple[str, ...]  # the class folders, sorted
    names: tuple[str, ...]  # what people call them, out of classes.csv where there is one

    def contents(self) -> Iterator[tuple[int, Reader]]:
        """Each picture's place in `pictures` and a function that reads it, in the best order.

        The functions work in any thread. For pictures over MAX_BYTES they return nothing of use.
        """
        return self.container.contents(self.pictures)


def open_tree(place: Path) -> "Folder | Archives":
    """The container at `place`: a folder, one with train.zip and val.zip, a .zip, .tgz or .tar.gz.

    Raises DataError where there is none of these.
    """
    with _reading(place):
        if place.is_dir():
            zips = [place / f"{part}.zip" for part in PARTS]
            unpacked = any((place / part).is_dir() for part in PARTS)
            if unpacked or not any(path.exists() for path in zips):
                return Folder(place)
            if missing := [path for path in zips if not path.is_file()]:
                both = "a folder holds both train.zip and val.zip, or neither"
                raise DataError(f"{missing[0]} is missing: {both}")
            table = place / _CLASSES
            return Archives(place, (*zips, table) if table.is_file() else tuple(zips))
        if not place.is_file() or not place.name.lower().endswith((".zip", ".tgz", ".tar.gz")):
            raise DataError(f"{place} is neither a folder nor a .zip, .tgz or .tar.gz; {_LAYOUT}")
        return Archives(place, (place,))


# Containers: what they hold, how it is read, and how to know that it is still the same


class Folder:
    """A tree of plain files."""

    def __init__(self, root: Path) -> None:
        inside = [path for path in root.iterdir() if (path / PARTS[0]).is_dir()]
        self.root = inside[0] if len(inside) == 1 and not (root / PARTS[0]).is_dir() else root
        self._members = tuple(sorted(self._walk()))

    def _walk(self) -> Iterator[Member]:
        for entry in _entries(self.root):
            if entry.name == _CLASSES:
                yield self._file(_CLASSES, entry)
            elif entry.name in PARTS and entry.is_dir():
                yield from self._below(entry.name, levels=2)

    def _below(self, above: str, levels: int) -> Iterator[Member]:
        for entry in _entries(self.root / above):
            name = f"{above}/{entry.name}"
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                yield self._file(name, entry)
                continue
            yield Member(name, folder=True)
            if levels:  # a link to a folder above would go on for ever
                yield from self._below(name, levels - 1)

    @staticmethod
    def _file(name: str, entry: os.DirEntry) -> Member:
        facts = entry.stat()
        explains = name == _CLASSES or name.endswith(f"/{_ANNOTATIONS}")
        content = _bounded(Path(entry).read_bytes, facts.st_size) if explains else b""
        return Member(name, facts.st_size, facts.st_mtime_ns, content=content)

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(member.size for member in self._members)

    def stamp(self) -> str:
        """Another one when a file comes, goes, or changes in size or time. Opens no picture."""
        state = hashlib.sha256(str(self.root.resolve()).encode("utf-8", "surrogateescape"))
        for name, size, changed, folder, _ in self._members:
            state.update(f"{name!r} {size} {changed} {folder}\n".encode())
        return state.hexdigest()

    def digest(self, on_bytes: Callable[[int], object]) -> str:
        """SHA-256 over names and contents of classes.csv and of what is not hidden in the parts."""
        total = hashlib.sha256()
        for member in self._members:
            content = "folder" if member.folder else file_digest(self.root / member.name, on_bytes)
            total.update(f"{content} {member.name!r}\n".encode())
        return total.hexdigest()

    def members(self) -> Iterable[Member]:
        return self._members

    def contents(self, pictures: tuple[Picture, ...]) -> Iterator[tuple[int, Reader]]:
        for index, picture in enumerate(pictures):
            yield index, (self.root / picture.name).read_bytes


class Archives:
    """One .zip or .tgz; or train.zip and val.zip, perhaps with a classes.csv beside them."""

    def __init__(self, root: Path, files: tuple[Path, ...]) -> None:
        self.root, self._files = root, files

    @property
    def bytes(self) -> int:
        """Of all files together."""
        return sum(path.stat().st_size for path in self._files)

    def stamp(self) -> str:
        """Another one when an archive changes in size or time. Opens nothing."""
        facts = [
            (str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns)
            for path in self._files
        ]
        return hashlib.sha256(repr(facts).encode()).hexdigest()

    def digest(self, on_bytes: Callable[[int], object]) -> str:
        """SHA-256 over the SHA-256 of each file."""
        return digest_of(file_digest(path, on_bytes) for path in self._files)

    def members(self) -> Iterator[Member]:
        for path in self._files:
            if path.name == _CLASSES:
                yield Member(_CLASSES, content=path.read_bytes())
            elif path.suffix.lower() == ".zip":
                yield from _zip_members(path)
            else:
                yield from (member for member, _ in _tar_members(path))

    def contents(self, pictures: tuple[Picture, ...]) -> Iterator[tuple[int, Reader]]:
        """Read here, not in the threads: neither kind of archive promises to be read by several."""
        places = {picture.name: index for index, picture in enumerate(pictures)}
        for path in self._files:
            if path.suffix.lower() == ".zip":
                yield from _zip_contents(path, places)
            elif path.name != _CLASSES:
                for member, read in _tar_members(path):
                    if member.name in places:
                        content = _bounded(read, member.size)
                        yield places[member.name], partial(bytes, content)


def _bounded(read: Reader, size: int) -> bytes:
    """The content of a file of this size; of one larger than any picture, nothing."""
    return read() if size <= MAX_BYTES else b""


def _entries(folder: Path) -> list[os.DirEntry]:
    with os.scandir(folder) as entries:
        return list(entries)


def _zip_members(path: Path) -> Iterator[Member]:
    with _reading(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if stat.S_IFMT(info.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(path, info.filename, "is a link or a device")
            name = _safe(path, info.filename)
            read = partial(archive.read, info)
            content = _bounded(read, info.file_size) if _explains(name) else b""
            yield Member(name, info.file_size, folder=info.is_dir(), content=content)


def _zip_contents(path: Path, places: dict[str, int]) -> Iterator[tuple[int, Reader]]:
    with _reading(path), zipfile.ZipFile(path) as archive:
        inside = {_safe(path, info.filename): info for info in archive.infolist()}
        for name, index in places.items():
            if name in inside:
                yield index, _read_zip(archive, inside[name])


def _read_zip(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Reader:
    """The content read now, or the error kept for whoever asks: a bad picture is no bad archive."""
    try:
        return partial(bytes, _bounded(partial(archive.read, info), info.file_size))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return partial(_raise, zipfile.BadZipFile("the archive gives a place outside of itself"))
    except Exception as error:  # a good dozen of kinds, for damaged, encrypted and odd members
        return partial(_raise, error)


def _raise(error: Exception) -> bytes:
    raise error


def _tar_members(path: Path) -> Iterator[tuple[Member, Reader]]:
    """Each member in turn, and how to read it before the next comes: a .tgz is one stream."""
    with (
        _reading(path),
        gzip.open(path) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        for info in archive:
            if not (info.isreg() or info.isdir()):
                raise _unsafe(path, info.name, "is a link or a device")
            # gzip packs no more, and tarfile would look for ever
            if info.size > 1032 * path.stat().st_size:
                why = f"{info.name!r} cannot have {info.size:,} bytes"
                raise DataError(f"{path} is damaged: {why}. Get it again.")
            name, read = _safe(path, info.name), partial(_read_tar, archive, info)
            content = _bounded(read, info.size) if _explains(name) and info.isreg() else b""
            yield Member(name, info.size, folder=info.isdir(), content=content), read
        while rest := archive.fileobj.read(1 << 20):  # to the end, where gzip's checksum is
            if any(rest):  # tarfile takes a damaged header for the end
                raise DataError(f"{path} is damaged: it goes on after its end. Get it again.")


def _read_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    return archive.extractfile(info).read()


def _explains(name: str) -> bool:
    return name.rpartition("/")[2] in (_CLASSES, _ANNOTATIONS)


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    """Errors of archives and of the file system in one voice."""
    try:
        yield
    except _BAD as error:
        raise DataError(f"{path} is truncated or damaged ({error}). Get it again.") from error
    # encrypted, or packed in a way zipfile does not know
    except (RuntimeError, NotImplementedError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    except OSError as error:
        place, why = error.filename or path, error.strerror or error
        raise DataError(f"{place} cannot be read: {why}") from error


def _safe(path: Path, name: str) -> str:
    """`name` without leading ./ and trailing /; refused where it could point out of its tree."""
    clean = name.removeprefix("./").removesuffix("/")
    # \ and C: mean something to Windows
    odd = "\\" in clean or "\0" in clean or ":" in clean.partition("/")[0]
    top, dots = clean in ("", "."), {"", ".", ".."}
    if odd or (not top and not dots.isdisjoint(clean.split("/"))):
        raise _unsafe(path, name, "is not a plain name inside the archive")
    return clean


def _unsafe(path: Path, name: str, why: str) -> DataError:
    return DataError(
        f"{path} is refused: {name!r} {why}. Pack train/ and val/ again, with plain files only."
    )


# From members to pictures

_Key = tuple[str, str, str]  # part, class folder, file


def arrange(container: Folder | Archives) -> Tree:
    """The tree in `container`, checked. Raises DataError for whatever keeps it from being one."""
    where = container.root
    files: dict[_Key, Member] = {}
    folders: dict[str, set[str]] = {part: set() for part in PARTS}
    tables: dict[str, bytes] = {}
    loose, strange = [], []
    for pieces, member in _inside(container.members()):
        if pieces in ([_CLASSES], ["val", _ANNOTATIONS]):
            tables[pieces[-1]] = member.content
            continue
        part, *rest = pieces
        if part not in PARTS or not rest or any(piece.startswith(".") for piece in rest):
            continue
        if len(rest) == 3 and rest[1] == "images":  # Tiny ImageNet's train/<class>/images/<picture>
            del rest[1]
        if member.folder:
            folders[part].add(rest[0])
            if rest[1:] not in ([], ["images"]):
                strange.append(f"{member.name}/")
        elif (suffix := _suffix(rest[-1])) not in SUFFIXES:
            about = rest[-1].upper().startswith(("README", "LICENSE"))
            if suffix not in _BESIDE and not about:
                strange.append(member.name)
        elif len(rest) == 1:
            loose.append(member.name)
        elif len(rest) == 2:
            if (part, *rest) in files:
                raise DataError(f"{where} is refused: it holds {member.name!r} twice")
            folders[part].add(rest[0])
            files[part, *rest] = member
    if loose:
        sort = "Sort them into folders, one for each class"
        raise DataError(f"{where}: {_some(loose)} in no class folder. {sort}")
    if strange:
        what = "is neither a picture nor a class folder. Move it away"
        raise DataError(f"{where}: {_some(strange)} {what}; {_LAYOUT}")
    if folders["val"] == {"images"} and _ANNOTATIONS in tables:
        files, folders["val"] = _annotated(files, tables[_ANNOTATIONS], where)
    classes = _checked(files, folders, where)
    label = {name: index for index, name in enumerate(classes)}
    pictures = tuple(
        Picture(part, label[folder], member.name, member.size)
        for (part, folder, _), member in sorted(files.items())
    )
    return Tree(container, pictures, classes, _names(classes, tables.get(_CLASSES), where))


def _inside(members: Iterable[Member]) -> Iterator[tuple[list[str], Member]]:
    """Members by the pieces of their names, without the one folder around what was packed."""
    members = tuple(members)
    tops, packed = set(), set()
    for member in members:
        top, *rest = member.name.split("/", 2)
        tops.add(top)
        if rest and rest[0] in PARTS:
            packed.add(top)
    prefix = "" if tops & set(PARTS) or len(packed) != 1 else f"{packed.pop()}/"
    for member in members:
        if member.name.startswith(prefix):
            yield member.name.removeprefix(prefix).split("/"), member


def _annotated(
    files: dict[_Key, Member], annotations: bytes, where: Path
) -> tuple[dict[_Key, Member], set[str]]:
    """Tiny ImageNet keeps its val pictures in one folder, and their classes in a table."""
    lines = annotations.decode(errors="replace").splitlines()
    table = dict(line.split("\t")[:2] for line in lines if "\t" in line)
    moved = {}
    for (part, folder, file), member in files.items():
        if part == "val" and file not in table:
            silent = f"val/{_ANNOTATIONS} does not say which class {member.name!r} is"
            raise DataError(f"{where}: {silent}")
        moved[part, table[file] if part == "val" else folder, file] = member
    return moved, set(table.values())


def _checked(files: Iterable[_Key], folders: dict[str, set[str]], where: Path) -> tuple[str, ...]:
    """The classes, sorted: the same in both parts, two or more, with a picture in each."""
    filled = {part: {folder for owner, folder, _ in files if owner == part} for part in PARTS}
    empty = []
    for part in PARTS:
        if not filled[part]:
            raise DataError(f"{where} holds no pictures in {part}/; {_LAYOUT}")
        empty += [f"{part}/{folder}" for folder in sorted(folders[part] - filled[part])]
    if empty:
        raise DataError(f"{where}: no picture in {_some(empty)}. Fill or remove it")
    train, val = (folders[part] for part in PARTS)
    if train != val:
        only = {"train": sorted(train - val), "val": sorted(val - train)}
        told = "; ".join(f"only in {part}: {_some(names)}" for part, names in only.items() if names)
        raise DataError(f"{where}: train and val must hold the same classes; {told}")
    if len(train) == 1:
        one = f"only one class, {train.pop()!r}; there must be two or more"
        raise DataError(f"{where} holds {one}")
    return tuple(sorted(train))


def _names(classes: tuple[str, ...], table: bytes | None, where: Path) -> tuple[str, ...]:
    if table is None:
        return classes
    rows = list(csv.DictReader(table.decode("utf-8-sig", errors="replace").splitlines()))
    if not rows or not {"wnid", "name"} <= rows[0].keys():
        columns = "the columns wnid, the class folder, and name"
        raise DataError(f"{where}: {_CLASSES} must have {columns}")
    names = {row["wnid"]: row["name"] for row in rows}
    return tuple(names.get(folder) or folder for folder in classes)


def _suffix(file: str) -> str:
    # pathlib takes ten times as long, and there may be a million
    return f".{file.rpartition('.')[2].lower()}"


def _some(names: list[str], most: int = 5) -> str:
    """The first few of `names`, quoted as they may hold anything, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(repr, names[:most])) + more
