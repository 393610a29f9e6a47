"""Trees of pictures, ``train/<class>/*`` and ``val/<class>/*``, read where they lie: folder, .zip or .tgz.

Nothing is ever extracted, and a name inside an archive is never used as a path. What a tree holds is checked before the
first picture is opened: the same classes in both parts, a picture in each, no file that nobody can explain.
"""

import csv
import gzip
import hashlib
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from bnkit.datasets import DataError

PARTS = ("train", "val")
MAX_BYTES = 100_000_000  # of one picture's file: ImageNet's largest has 16 MB; more is a mistake or an attack
SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm"})
_BESIDE = frozenset({".txt", ".csv", ".md", ".json", ".xml", ".html", ".db", ".ini"})  # files that come with pictures
_CLASSES, _ANNOTATIONS = "classes.csv", "val_annotations.txt"
_LAYOUT = "a tree holds train/<class>/<picture> and val/<class>/<picture>"


class Member(NamedTuple):
    """One file or folder of a tree, as its container names it."""

    name: str  # with "/", relative to the container
    size: int = 0  # bytes
    changed: int = 0  # nanoseconds, for files in folders
    key: object = None  # what the container needs to read it
    folder: bool = False
    content: bytes = b""  # of the two small files that explain a tree, and of no other


class Picture(NamedTuple):
    """One picture of a tree; sorted, they stand in the order of the arrays."""

    part: str  # train or val
    label: int
    file: str  # its name in the class folder
    name: str  # its name in the container, for messages
    size: int  # bytes
    key: object


Reader = Callable[[], bytes]


@dataclass(frozen=True)
class Tree:
    """A checked tree: what it holds, and how to read it."""

    container: "Folder | Archives"
    pictures: tuple[
        Picture, ...
    ]  # sorted by part, class and name, so the same tree gives the same arrays however packed
    classes: tuple[str, ...]  # names of the class folders, sorted; a label is a place in here
    names: tuple[str, ...]  # what people call them, out of classes.csv where there is one

    def contents(self, opened: ExitStack) -> Iterator[tuple[int, Reader]]:
        """Each picture's place in `pictures` and a function that reads it, in the order the container reads best.

        The functions work in any thread until `opened` is closed.
        """
        return self.container.contents(self.pictures, opened)


def open_tree(place: Path) -> "Folder | Archives":
    """The container at `place`: a folder, a folder that holds train.zip and val.zip, a .zip, a .tgz or .tar.gz."""
    place = Path(place)
    if place.is_dir():
        zips = [place / f"{part}.zip" for part in PARTS]
        if any(path.exists() for path in zips) and not any((place / part).is_dir() for part in PARTS):
            missing = [str(path) for path in zips if not path.is_file()]
            if missing:
                raise DataError(f"{missing[0]} is missing: the folder must hold both train.zip and val.zip")
            return Archives(place, (*zips, *(path for path in [place / _CLASSES] if path.is_file())))
        return Folder(place)
    if not place.is_file():
        raise DataError(f"{place} is neither a folder nor a file; give a folder, a .zip or a .tgz: {_LAYOUT}")
    if not place.name.lower().endswith((".zip", ".tgz", ".tar.gz")):
        raise DataError(f"{place} is neither a folder nor a .zip, .tgz or .tar.gz: {_LAYOUT}")
    return Archives(place, (place,))


# Containers


class Folder:
    """A tree of plain files."""

    def __init__(self, root: Path) -> None:
        inside = [path for path in sorted(root.iterdir()) if (path / PARTS[0]).is_dir()]
        self.root = inside[0] if len(inside) == 1 and not (root / PARTS[0]).is_dir() else root
        self._members = tuple(self._walk())

    def _walk(self) -> Iterator[Member]:
        for name in (_CLASSES,):
            if (self.root / name).is_file():
                yield self._file(name, self.root / name)
        for part in PARTS:
            if (self.root / part).is_dir():
                yield from self._below(part, self.root / part, levels=3)

    def _below(self, prefix: str, folder: Path, levels: int) -> Iterator[Member]:
        for path in sorted(folder.iterdir()):
            name = f"{prefix}/{path.name}"
            if path.name.startswith("."):
                continue
            if path.is_dir():
                yield Member(name, folder=True)
                if levels:  # a link to a folder above would go on for ever
                    yield from self._below(name, path, levels - 1)
            else:
                yield self._file(name, path)

    @staticmethod
    def _file(name: str, path: Path) -> Member:
        try:
            facts = path.stat()
        except OSError:  # a link to nothing: a picture that cannot be read, and said so when it is read
            return Member(name, key=path)
        content = path.read_bytes() if path.name in (_CLASSES, _ANNOTATIONS) else b""
        return Member(name, facts.st_size, facts.st_mtime_ns, path, content=content)

    def stamp(self) -> str:
        """Changes when a file comes, goes, or changes in size or time; reads no picture."""
        return _sha256(repr((str(self.root.resolve()), [member[:3] for member in self._members])).encode())

    def digest(self) -> str:
        """SHA-256 over the name and content of every file that counts."""
        total = hashlib.sha256()
        for member in self._members:
            if not member.folder:
                try:
                    content = file_digest(member.key)
                except OSError as error:
                    content = f"cannot be read: {error.errno}"
                total.update(f"{content} {member.name}\n".encode("utf-8", "surrogateescape"))
        return total.hexdigest()

    def members(self) -> Iterable[Member]:
        return self._members

    def contents(self, pictures: tuple[Picture, ...], opened: ExitStack) -> Iterator[tuple[int, Reader]]:
        for index, picture in enumerate(pictures):
            yield index, picture.key.read_bytes


class Archives:
    """One .zip or .tgz, or train.zip and val.zip together; perhaps with a classes.csv beside them."""

    def __init__(self, place: Path, files: tuple[Path, ...]) -> None:
        self.root, self.files = place, files

    def stamp(self) -> str:
        """Changes when an archive changes in size or time; reads nothing."""
        facts = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in self.files]
        return _sha256(repr(facts).encode())

    def digest(self) -> str:
        """SHA-256 over the SHA-256 of each file."""
        return digest_of(file_digest(path) for path in self.files)

    def members(self) -> Iterator[Member]:
        for path in self.files:
            if path.name == _CLASSES:
                yield Member(_CLASSES, content=path.read_bytes())
            elif path.suffix.lower() == ".zip":
                yield from _zip_members(path)
            else:
                for member, _ in _tar_members(path):
                    yield member

    def contents(self, pictures: tuple[Picture, ...], opened: ExitStack) -> Iterator[tuple[int, Reader]]:
        places = {picture.name: index for index, picture in enumerate(pictures)}
        for path in self.files:
            if path.suffix.lower() == ".zip":
                yield from _zip_contents(path, places, opened)
            elif path.name != _CLASSES:
                for member, read in _tar_members(path):
                    if member.name in places:
                        content = read() if member.size <= MAX_BYTES else b""
                        yield places[member.name], partial(bytes, content)


def _zip_members(path: Path) -> Iterator[Member]:
    with _reading(path), zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise _unsafe(path, info.filename, "is a link or a device")
            name = _safe(path, info.filename)
            wanted = name.rpartition("/")[2] in (_CLASSES, _ANNOTATIONS) and info.file_size <= MAX_BYTES
            content = archive.read(info) if wanted else b""
            yield Member(name, info.file_size, folder=info.is_dir(), content=content)


def _zip_contents(path: Path, places: dict[str, int], opened: ExitStack) -> Iterator[tuple[int, Reader]]:
    with _reading(path):
        archive = opened.enter_context(zipfile.ZipFile(path))
    inside = {_safe(path, info.filename): info for info in archive.infolist()}
    for name, index in places.items():
        if name in inside:
            yield index, partial(archive.read, inside[name])


def _tar_members(path: Path) -> Iterator[tuple[Member, Reader]]:
    """Each member in turn, to be read at once: a .tgz is one stream."""
    with _reading(path), gzip.open(path) as stream:
        with tarfile.open(fileobj=stream, mode="r|") as archive:
            for info in archive:
                if not (info.isreg() or info.isdir()):
                    raise _unsafe(path, info.name, "is a link or a device")
                name = _safe(path, info.name)
                read = partial(_read_tar, archive, info)
                wanted = name.rpartition("/")[2] in (_CLASSES, _ANNOTATIONS) and info.size <= MAX_BYTES
                yield Member(name, info.size, folder=info.isdir(), content=read() if wanted else b""), read
        while rest := stream.read(1 << 20):  # to the end, where gzip's checksum is
            if any(rest):
                raise DataError(f"{path} is damaged: something follows the end of the archive. Get it again.")


def _read_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    return archive.extractfile(info).read()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is truncated or damaged ({error}). Get it again.") from error
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or packed in a way zipfile does not know
        raise DataError(f"{path} cannot be read: {error}") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _safe(path: Path, name: str) -> str:
    """`name` without a leading ./ and a trailing /; refused where it could point out of its tree."""
    clean = name.removeprefix("./").rstrip("/")
    odd = "\\" in clean or "\0" in clean or ":" in clean.partition("/")[0] or clean.startswith("/")
    if odd or any(piece in ("..", ".", "") for piece in clean.split("/") if clean):
        raise _unsafe(path, name, "is not a plain name below the archive")
    return clean


def _unsafe(path: Path, name: str, why: str) -> DataError:
    return DataError(f"{path} is refused: {name!r} {why}. Pack train/ and val/ again, with plain files only.")


# From members to pictures


def arrange(container: Folder | Archives) -> Tree:
    """The tree in `container`, checked. Raises DataError for all that is wrong with it."""
    where = container.root
    files: dict[tuple[str, str, str], Member] = {}
    folders: dict[str, set[str]] = {part: set() for part in PARTS}
    explained, strange = {}, []
    for parts, member in _inside(container.members()):
        if member.content:
            explained[parts[-1]] = member.content
        if parts[0] not in PARTS or any(piece.startswith(".") for piece in parts):
            continue
        part, *rest = parts
        if len(rest) == 3 and rest[1] == "images":  # Tiny ImageNet's train/<class>/images/<picture>
            del rest[1]
        if member.folder:
            if len(rest) == 1:
                folders[part].add(rest[0])
            elif (len(rest) == 2 and rest[1] != "images") or len(rest) > 2:
                strange.append(f"{member.name}/")
        elif Path(rest[-1] if rest else part).suffix.lower() not in SUFFIXES:
            if Path(rest[-1]).suffix.lower() not in _BESIDE and not rest[-1].upper().startswith(("README", "LICENSE")):
                strange.append(member.name)
        elif len(rest) != 2:
            strange.append(member.name)
        elif (part, *rest) in files:
            raise DataError(f"{where} holds {member.name} twice")
        else:
            files[part, *rest] = member
            folders[part].add(rest[0])
    if strange:
        raise DataError(f"{where}: {_some(strange)}: no picture in a class folder. Move it away: {_LAYOUT}")
    if folders["val"] == {"images"} and _ANNOTATIONS in explained:
        files, folders["val"] = _annotated(files, explained[_ANNOTATIONS].decode(), where)
    classes = _checked(files, folders, where)
    label = {name: index for index, name in enumerate(classes)}
    pictures = tuple(
        Picture(part, label[folder], file, member.name, member.size, member.key)
        for (part, folder, file), member in sorted(files.items())
    )
    return Tree(container, pictures, classes, _names(classes, explained.get(_CLASSES, b""), where))


def _inside(members: Iterable[Member]) -> Iterator[tuple[list[str], Member]]:
    """Members by the parts of their names, without the one folder that archives are often packed in."""
    split = [(member.name.split("/"), member) for member in members]
    outer = {parts[0] for parts, _ in split if len(parts) > 1 and parts[1] in PARTS}
    packed = len(outer) == 1 and not any(parts[0] in PARTS for parts, _ in split)
    for parts, member in split:
        if not packed:
            yield parts, member
        elif parts[0] in outer and len(parts) > 1:
            yield parts[1:], member


def _annotated(files: dict, annotations: str, where: Path) -> tuple[dict, set[str]]:
    """Tiny ImageNet keeps its val pictures in one folder and their classes in a table."""
    table = dict(line.split("\t")[:2] for line in annotations.splitlines() if line.count("\t"))
    moved = {}
    for (part, folder, file), member in files.items():
        if part == "val" and file not in table:
            raise DataError(f"{where}: {_ANNOTATIONS} does not say which class {member.name} is")
        moved[part, table[file] if part == "val" else folder, file] = member
    return moved, set(table.values())


def _checked(files: dict, folders: dict[str, set[str]], where: Path) -> tuple[str, ...]:
    if not files:
        raise DataError(f"{where} holds no pictures: {_LAYOUT}")
    for part in PARTS:
        filled = {folder for found, folder, _ in files if found == part}
        if not filled:
            raise DataError(f"{where} holds no pictures in {part}/: {_LAYOUT}")
        if empty := sorted(folders[part] - filled):
            raise DataError(
                f"{where}: {_some([f'{part}/{each}' for each in empty])}: no picture in it. Fill or remove it."
            )
    if folders["train"] != folders["val"]:
        only = {part: sorted(folders[part] - folders[other]) for part, other in zip(PARTS, PARTS[::-1], strict=True)}
        told = "; ".join(f"only in {part}: {_some(names)}" for part, names in only.items() if names)
        raise DataError(f"{where}: train and val must hold the same classes. {told}")
    if len(folders["train"]) < 2:
        raise DataError(f"{where} holds only one class, {next(iter(folders['train']))}; there must be two or more")
    return tuple(sorted(folders["train"]))


def _names(classes: tuple[str, ...], table: bytes, where: Path) -> tuple[str, ...]:
    if not table:
        return classes
    rows = list(csv.DictReader(table.decode("utf-8-sig").splitlines()))
    if not rows or not {"wnid", "name"} <= rows[0].keys():
        raise DataError(f"{where}: {_CLASSES} must have the columns wnid (the class folder) and name")
    names = {row["wnid"]: row["name"] for row in rows}
    return tuple(names.get(each) or each for each in classes)


def _some(names: list[str], most: int = 5) -> str:
    """The first few of `names`, and how many more there are."""
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} more" if len(names) > most else "")


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def digest_of(digests: Iterable[str]) -> str:
    """One SHA-256 over the SHA-256 of several files."""
    return _sha256(b"".join(map(bytes.fromhex, digests)))


def file_digest(path: Path) -> str:
    """SHA-256 of one file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
