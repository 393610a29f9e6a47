"""Colour pictures of any size as arrays of one size, decoded once and then mapped into memory.

``load`` takes a data set by name, or any tree ``train/<class>/*``, ``val/<class>/*`` as a folder, a
.zip or a .tgz (``bnkit.datasets.trees``). Each picture is converted to RGB, its central square is
resized, and all of them are kept as one array below ``data/cache/pictures/``, keyed by the digest
of the source and by the size: the second time nothing is decoded, and a set larger than memory is
no trouble. ``distort`` moves, mirrors and relights a batch for training.
"""

import io
import json
import os
import shutil
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bnkit import paths
from bnkit.datasets import trees
from bnkit.datasets.files import DataError, altered, digest_of, file_digest, not_here, size_of

MAX_PIXELS = 89_478_485  # Pillow's own limit, above which it speaks of a decompression bomb
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_INDEX = "index.json"

Container = trees.Folder | trees.Archives


@dataclass(frozen=True, eq=False)
class Pictures:
    """A data set of n training and t test pictures of size x size pixels in RGB, labels from 0.

    Shapes: images (n, size, size, 3) uint8, labels (n,) int64; t for n in the test. The images are
    read-only memory maps: index them with batches, never hold them all.
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray  # of val/
    test_labels: np.ndarray
    classes: tuple[str, ...]  # the class folders, sorted: what the labels 0, 1, ... mean
    names: tuple[str, ...]  # what people call them
    digest: str  # SHA-256 over the files of the source; belongs into the manifest of a run
    skipped: int  # broken pictures that were left out, by the caller's choice
    size: int  # pixels, height and width
    white: int = 255  # the largest pixel value


@dataclass(frozen=True)
class _Card:
    """A published set: its files with bytes and SHA-256."""

    files: dict[str, tuple[int, str]]
    counts: tuple[int, int]  # training and test pictures that must come out
    advice: str  # how to get it


_IMAGENETTE = {
    "train.zip": (63_309_116, "29a169a5353fd4097fad456ffdd41288c7c02c77642b8daa11ac3bcd7df57e36"),
    "val.zip": (26_331_178, "0e6280193c2c70140ba757bd06a53493d82839d510e4f7f4bd2d2083f355b653"),
    "classes.csv": (351, "43a702a033271a4b5ea317ef907d9a7370d5342fbbd5ca629ea370ec6231a7d6"),
}
_ELSEWHERE = "https://s3.amazonaws.com/fast-ai-imageclas/imagenette2-160.tgz"
_CARDS = {
    "imagenette": _Card(
        files=_IMAGENETTE,
        counts=(9_469, 3_925),
        advice=f"get {_ELSEWHERE} and give its path, not the name:\n"
        "     the same photographs encoded differently, "
        "another data set with accuracies of its own",
    )
}


def names() -> tuple[str, ...]:
    """Names that ``load`` knows; it also takes paths."""
    return tuple(_CARDS)


def available(source: str | Path) -> bool:
    """Whether the files of `source` are there, for a name with the right sizes. Opens nothing."""
    if source not in _CARDS:
        return Path(source).expanduser().exists()
    return _home(source) is not None


def load(source: str | Path, size: int, *, on_broken: str = "refuse") -> Pictures:
    """The pictures of `source`, a name or the path of a tree, as arrays of `size` x `size` pixels.

    Each picture becomes RGB (transparent parts become white), its central square is resized with a
    Lanczos filter: the same as making its shorter side `size` and cutting the rest. A smaller one
    is enlarged. Notes on orientation or colour profile are not applied, as is the custom for
    ImageNet.

    A broken picture is an error that names it; with ``on_broken="skip"`` it is left out and counted
    in `skipped`. Raises DataError for a source that is not there, altered, no tree, or broken.
    """
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 1024:
        raise ValueError(f"size={size!r}: it must be a whole number of pixels, 1 to 1024")
    if on_broken not in ("refuse", "skip"):
        raise ValueError(f"on_broken={on_broken!r}: it must be 'refuse' or 'skip'")
    card = _CARDS.get(source) if isinstance(source, str) else None
    place = _found(source) if card else _given(source)
    container = trees.open_tree(place)
    with _kept():
        stamp = container.stamp()
        note = _cache() / "digests" / stamp
        digest = note.read_text(encoding="utf-8") if note.is_file() else ""
        # nothing is decoded under a digest from an old note
        if not (_folder(digest, size) / _INDEX).is_file():
            digest = _digest(container)
            paths.write_atomically(note, digest)
        if card and digest != digest_of(expected for _, expected in card.files.values()):
            raise _altered(card, place)
        folder = _folder(digest, size)
        if not (folder / _INDEX).is_file():
            _fill(folder, container, stamp, digest, size)
    loaded, broken = _open(folder, source if card else _title(container.root), digest)
    if broken and on_broken == "refuse":
        raise DataError(_told(place, broken))
    counts = (len(loaded.train_labels), len(loaded.test_labels))
    if card and counts != card.counts:
        held = f"{folder} holds {counts} pictures of {card.counts}"
        raise DataError(f"{held}. Remove it: it is made again")
    return loaded


# What training does with them


def distort(
    images: np.ndarray, rng: np.random.Generator, shift: int = 0, flip: bool = False,
    scale: float = 1.0, light: float = 0.0,
) -> np.ndarray:  # fmt: skip
    """A new batch, each picture moved, mirrored, enlarged and relit at random, repeatable by `rng`.

    `shift`: up to so many pixels in each direction, the rim filled by reflection. `flip`: mirrored
    left to right, every second one. `scale`: a square cut out whose side is `scale` to 1 of the
    picture's, enlarged to its size (nearest pixel). `light`: contrast and brightness off by up to
    this share; the paper's Section 4.2.1 weakens these last ones.

    Shapes: images (m, s, s, 3) uint8 -> the same.
    """
    m, s = images.shape[:2]
    if not 0 <= shift < s:
        raise ValueError(f"shift={shift}: it must be 0 to {s - 1} pixels, less than a picture has")
    if not 0 < scale <= 1 or not 0 <= light < 1:
        allowed = "scale must be above 0 to 1, light from 0 to below 1"
        raise ValueError(f"scale={scale}, light={light}: {allowed}")
    side = s * rng.uniform(scale, 1, m)
    # (m, 2), top and left
    room = (s - side)[:, None] * rng.random((m, 2)) + rng.integers(-shift, shift + 1, (m, 2))
    steps = (np.arange(s) + 0.5) * side[:, None] / s  # (m, s)
    exact = (np.floor(room[:, [axis]] + steps) for axis in (0, 1))
    rows, columns = (_reflected(places.astype(np.int64), s) for places in exact)  # (m, s)
    if flip:
        mirrored = rng.random(m) < 0.5
        columns[mirrored] = columns[mirrored, ::-1]
    moved = np.empty_like(images)
    for image, row, column, out in zip(images, rows, columns, moved, strict=True):
        # all places are inside; this mode spares a copy
        image[row].take(column, axis=1, out=out, mode="clip")
    return _relit(moved, rng, light) if light else moved


def _reflected(places: np.ndarray, s: int) -> np.ndarray:
    """Places outside 0..s-1 folded back, the rim itself not repeated: -1 is 1, s is s-2."""
    places = np.abs(places)
    return np.where(places >= s, 2 * (s - 1) - places, places)


def _relit(images: np.ndarray, rng: np.random.Generator, light: float) -> np.ndarray:
    """Each picture through a curve of its own, one value for each of 256."""
    contrast, brightness = rng.uniform(-light, light, (2, len(images), 1))
    curves = (np.arange(256) - 127.5) * (1 + contrast) + 127.5 + 255 * brightness  # (m, 256)
    curves = np.clip(np.rint(curves), 0, 255).astype(np.uint8)
    for image, curve in zip(images, curves, strict=True):
        curve.take(image, out=image, mode="clip")
    return images


# One picture


class _Unusable(Exception):
    """Why a picture is not used, in words for the message."""


def _decoded(content: bytes, size: int) -> np.ndarray:
    """One picture of any kind as (size, size, 3) uint8."""
    _refuse_large(len(content))
    try:
        image = Image.open(io.BytesIO(content), formats=_FORMATS)
    except Image.UnidentifiedImageError:
        raise _Unusable("not a picture" if content else "empty") from None
    with image:
        if image.width * image.height > MAX_PIXELS:
            much = f"{image.width} x {image.height} pixels"
            raise _Unusable(f"{much}; at most {MAX_PIXELS:,} are decoded")
        # a JPEG may be decoded at 1/2, 1/4 or 1/8, but not below twice `size`
        image.draft(None, (2 * size, 2 * size))
        rgb = _rgb(image)
    side = min(rgb.size)
    left, top = (rgb.width - side) / 2, (rgb.height - side) / 2
    box = (left, top, left + side, top + side)
    return np.asarray(rgb.resize((size, size), Image.Resampling.LANCZOS, box, reducing_gap=3))


def _refuse_large(size: int) -> None:
    if size > trees.MAX_BYTES:
        raise _Unusable(f"{size:,} bytes; at most {trees.MAX_BYTES:,} are read")


def _rgb(image: Image.Image) -> Image.Image:
    # grey of 16 bits, which convert would clip at 255
    if image.mode.startswith("I") or image.mode == "F":
        levels = np.asarray(image)
        if image.mode == "F" or levels.min() < 0 or levels.max() > 65_535:
            raise _Unusable("grey of 32 bits, whose white nobody knows")
        # 65535 / 255 = 257
        image = Image.fromarray(((levels.astype(np.uint32) + 128) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


# All pictures of a tree, once


def _fill(folder: Path, container: Container, stamp: str, digest: str, size: int) -> None:
    """Decode the tree beside `folder` and rename it at the end: it is there whole or not at all."""
    from filelock import FileLock

    part = folder.with_name(f".{folder.name}.part")
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        if (folder / _INDEX).is_file():  # another process was faster
            return
        for left in (part, folder):  # by a process that was stopped
            shutil.rmtree(left, ignore_errors=True)
        tree = trees.arrange(container)
        need, free = len(tree.pictures) * size * size * 3, shutil.disk_usage(folder.parent).free
        if need > free:
            room = f"{free / 1e9:.1f} GB free and {need / 1e9:.1f} GB are needed"
            raise DataError(f"{folder.parent} has {room}")
        part.mkdir()
        try:
            _write(part, tree, digest, size)
            if trees.open_tree(container.root).stamp() != stamp:
                changed = "changed while it was read; nothing is kept. Try again."
                raise DataError(f"{container.root} {changed}")
            part.replace(folder)
        finally:
            shutil.rmtree(part, ignore_errors=True)


def _write(folder: Path, tree: trees.Tree, digest: str, size: int) -> None:
    broken: dict[str, str] = {}
    labels = {part: [] for part in trees.PARTS}
    for picture in tree.pictures:
        labels[picture.part].append(picture.label)
    first = {"train": 0, "val": len(labels["train"])}  # of each part, among all pictures
    rows = {part: _Rows(folder / f"{part}.npy", len(labels[part]), size) for part in trees.PARTS}
    with rows["train"], rows["val"]:
        for index, pixels in _decode_all(tree, size):
            picture = tree.pictures[index]
            if isinstance(pixels, str):
                broken[picture.name] = pixels
            else:
                rows[picture.part].write(index - first[picture.part], pixels)
    broken = dict(sorted(broken.items()))
    for part in trees.PARTS:
        kept = np.array(labels[part], np.int64)[rows[part].written]
        if missing := sorted(set(range(len(tree.classes))) - set(kept.tolist())):
            nothing = f"no picture of class {tree.classes[missing[0]]!r} is left in {part}"
            told = _told(tree.container.root, broken)
            raise DataError(f"{told}\nHere, though, {nothing} without them.")
        np.save(folder / f"{part}-labels.npy", kept)
    index = {"digest": digest, "size": size, "classes": tree.classes, "names": tree.names}
    index["broken"] = broken
    paths.write_atomically(folder / _INDEX, json.dumps(index, indent=1))


class _Rows:
    """An .npy file of pictures, written by row in any order; gaps are closed up at the end."""

    def __init__(self, path: Path, count: int, size: int) -> None:
        self.shape, self.written = (count, size, size, 3), np.zeros(count, bool)
        self.file = open(path, "w+b")  # noqa: SIM115 - closed in __exit__
        self._header(count)
        self.start, self.bytes = self.file.tell(), size * size * 3

    def _header(self, count: int) -> None:
        facts = {"descr": "|u1", "fortran_order": False, "shape": (count, *self.shape[1:])}
        self.file.seek(0)
        # its length leaves room for any count
        np.lib.format.write_array_header_1_0(self.file, facts)

    def write(self, row: int, pixels: np.ndarray) -> None:
        self.file.seek(self.start + row * self.bytes)
        self.file.write(pixels.tobytes())
        self.written[row] = True

    def __enter__(self) -> "_Rows":
        return self

    def __exit__(self, failed: type | None, *_: object) -> None:
        with self.file:
            if failed:
                return
            kept = np.flatnonzero(self.written).tolist()
            for to, origin in enumerate(kept):
                if to != origin:
                    self.file.seek(self.start + origin * self.bytes)
                    row = self.file.read(self.bytes)
                    self.file.seek(self.start + to * self.bytes)
                    self.file.write(row)
            self.file.truncate(self.start + len(kept) * self.bytes)
            self._header(len(kept))
            self.file.flush()
            os.fsync(self.file.fileno())


def _decode_all(tree: trees.Tree, size: int) -> Iterator[tuple[int, np.ndarray | str]]:
    """Each picture's place and its pixels, or why there are none; by threads, in a fixed order."""
    from tqdm import tqdm

    def one(job: tuple[int, trees.Reader]) -> tuple[int, np.ndarray | str]:
        index, read = job
        try:
            _refuse_large(tree.pictures[index].size)
            return index, _decoded(read(), size)
        except _Unusable as error:
            return index, str(error)
        # a broken file can make a decoder raise nearly anything; the message keeps it
        except Exception as error:
            if isinstance(error, MemoryError) or getattr(error, "errno", None):
                raise  # the machine's trouble; it may pass
            return index, f"{type(error).__name__}: {error}".splitlines()[0]

    threads = os.cpu_count() or 1
    # warnings are of odd metadata; what counts is whether pixels come out
    with (
        warnings.catch_warnings(action="ignore"),
        ThreadPoolExecutor(threads) as pool,  # Pillow lets go of the interpreter while it decodes
        tqdm(total=len(tree.pictures), desc="decoding", unit="picture", disable=None) as bar,
    ):
        for result in _in_order(pool, one, tree.contents(), 8 * threads):
            bar.update()
            yield result


def _in_order(pool: ThreadPoolExecutor, work: Callable, jobs: Iterable, ahead: int) -> Iterator:
    """``pool.map`` that reads only `ahead` jobs ahead, whatever the size of the set."""
    pending = deque()
    for job in jobs:
        pending.append(pool.submit(work, job))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _open(folder: Path, name: str, digest: str) -> tuple[Pictures, dict[str, str]]:
    """The pictures in `folder`, and why others are not in it, by name."""
    try:
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        size, broken = index["size"], dict(index["broken"])
        images = {part: np.load(folder / f"{part}.npy", mmap_mode="r") for part in trees.PARTS}
        labels = {part: np.load(folder / f"{part}-labels.npy") for part in trees.PARTS}
        shapes = {part: (len(labels[part]), size, size, 3) for part in trees.PARTS}
        fit = all(images[part].shape == shape for part, shape in shapes.items())
        whole = index["digest"] == digest and fit
        classes, readable = tuple(index["classes"]), tuple(index["names"])
    except (OSError, EOFError, ValueError, KeyError, TypeError):
        whole = False
    if not whole:
        raise DataError(f"{folder} is damaged. Remove it: it is made again from the pictures.")
    parts = (images["train"], labels["train"], images["val"], labels["val"])
    return Pictures(name, *parts, classes, readable, digest, len(broken), size), broken


def _told(place: Path, broken: dict[str, str], most: int = 5) -> str:
    listed = "\n".join(f"  {name!r}: {reason}" for name, reason in list(broken.items())[:most])
    more = f"\n  and {len(broken) - most:,} more" if len(broken) > most else ""
    return (
        f"{place} holds {len(broken):,} broken picture{'s' * (len(broken) > 1)}:\n{listed}{more}\n"
        'Repair or remove them, or leave them out and counted: on_broken="skip".'
    )


# Where things are


def _cache() -> Path:
    return paths.cache() / "pictures"


def _folder(digest: str, size: int) -> Path:
    return _cache() / f"{digest[:16]}-{size}"


def _home(name: str) -> Path | None:
    """The first folder that holds every file of the set `name` with the right size."""
    for folder in paths.data_folders(name):
        if all(size_of(folder / file) == size for file, (size, _) in _CARDS[name].files.items()):
            return folder
    return None


def _found(name: str) -> Path:
    folders, files = paths.data_folders(name), _CARDS[name].files
    begun = [folder for folder in folders if any((folder / file).exists() for file in files)]
    if best := _home(name) or next(iter(begun), None):
        return best
    raise not_here(name, files, _CARDS[name].advice)


def _altered(card: _Card, place: Path) -> DataError:
    """Which file of a published set is not what it should be."""
    other = "another set of pictures is given by its path, not by this name."
    for file, expected in card.files.items():
        path = place / file
        digest = file_digest(path) if path.is_file() else "none: there is no such file"
        if digest != expected[1]:
            return altered(path, expected, digest, f"Put the right file there; {other}")
    return DataError(f"{place} holds more than {', '.join(card.files)}; {other}")


def _given(source: str | Path) -> Path:
    place = Path(source).expanduser()
    if not str(source) or not os.path.exists(place):
        raise DataError(
            f"there is no data set and no path {str(source)!r}. Give {' or '.join(names())}, "
            "or the path of a folder, .zip or .tgz that holds train/<class>/* and val/<class>/*"
        )
    return place


@contextmanager
def _kept() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or "the cache of pictures"
        raise DataError(f"{place} cannot be read or written: {error.strerror or error}") from error


def _digest(container: Container) -> str:
    from tqdm import tqdm

    shown = {"desc": "reading", "unit": "B", "unit_scale": True, "disable": None}
    with tqdm(total=container.bytes, **shown) as bar:
        return container.digest(bar.update)


def _title(place: Path) -> str:
    name = place.resolve().name
    for suffix in (".tar.gz", ".tgz", ".zip"):
        name = name.removesuffix(suffix)
    return name
