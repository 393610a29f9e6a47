"""Image data sets as arrays whose every byte is verified, and batches in a seeded order.

``digits`` comes with scikit-learn and is always there. The others are files: found in
``$BNKIT_DATA/<name>/`` or ``data/cache/<name>/``, else downloaded into the latter; what cannot be
had is an error, never replaced. ``data/README.md`` has sources, licences and counts.
"""

import gzip
import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path

import numpy as np

from bnkit.datasets import published
from bnkit.datasets.files import DIGITS, DataError, digest_of, size_of


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory: n training and t test images of h x w pixels, labels from 0.

    Shapes: images (n, h, w) uint8, labels (n,) int64; those of the test (t, h, w) and (t,).
    """

    name: str
    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: tuple[str, ...]  # what the labels 0, 1, ... mean
    white: int  # the largest pixel value: 255, or 16 for digits
    digest: str  # SHA-256 over all of its files; belongs into the manifest of a run


@dataclass(frozen=True)
class _Idx:
    """Four gzipped IDX files, and the places that serve them."""

    classes: tuple[str, ...]
    mirrors: tuple[str, ...]  # tried in turn
    # name -> (bytes, SHA-256): training images and labels, test images and labels
    files: dict[str, tuple[int, str]]


_DIGITS = tuple("0123456789")
# Of the arrays after our split; other arrays would be another data set.
_DIGITS_DIGEST = "3adeaf1d064fbac63b98e5c98a3c09d7eea14925235c6a2b8cb1eb16b80b350a"


def _four(*facts: tuple[int, str]) -> dict[str, tuple[int, str]]:
    """The files that MNIST and its like come in, with the bytes and the SHA-256 of each."""
    kinds = ("images-idx3", "labels-idx1")
    names = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in kinds]
    return dict(zip(names, facts, strict=True))


_IDX = {
    "mnist": _Idx(
        classes=_DIGITS,
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        files=_four(
            (9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            (28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            (1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            (4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
    ),
    "fashion-mnist": _Idx(
        classes=(
            *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
            *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
        ),
        mirrors=(
            "https://storage.googleapis.com/tensorflow/tf-keras-datasets/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        ),
        files=_four(
            (26_421_880, "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84"),
            (29_515, "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845"),
            (4_422_102, "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073"),
            (5_148, "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5"),
        ),
    ),
}


# What there is


def names() -> tuple[str, ...]:
    """Names that ``load`` knows, the one that needs no download first."""
    return ("digits", *_IDX)


def load(name: str) -> Dataset:
    """The data set `name`, verified byte by byte; downloads it first where its files are nowhere.

    Raises DataError for an unknown name, an altered file, and without both file and network.
    """
    if name == "digits":
        return _load_digits()
    idx = _idx(name)
    contents = [_verified(name, file) for file in idx.files]
    images_and_labels = [_read_idx(gzip.decompress(content)) for content in contents]
    images_and_labels[1::2] = [labels.astype(np.int64) for labels in images_and_labels[1::2]]
    digest = _digest(*contents)
    return Dataset(name, *images_and_labels, idx.classes, white=255, digest=digest)


def available(name: str) -> bool:
    """Whether ``load`` needs no network: all files of `name` are there and have their size."""
    if name == "digits":
        return importlib.util.find_spec("sklearn") is not None
    sizes = {published.find(name, file): size for file, (size, _) in _idx(name).files.items()}
    return all(path and size_of(path) == size for path, size in sizes.items())


# What training does with it


def batches(n: int, batch_size: int, seed: int, start: int = 0) -> Iterator[np.ndarray]:
    """Endless batches of indices into `n` examples, int64 of shape (batch_size,), by `seed`.

    Each epoch is a fresh permutation; its tail that does not fill a batch is left out. `start`
    skips that many batches at no cost: a resumed run continues exactly, in mid-epoch too.
    """
    if not 1 <= batch_size <= n:
        allowed = f"it must be 1 to the number of examples, {n}"
        raise ValueError(f"batch_size={batch_size} does not fit: {allowed}")
    if start < 0:
        raise ValueError(f"start={start}: the number of batches to skip cannot be negative")
    return _batches(n, batch_size, seed, start)


def fixed_batches(n: int, batch_size: int, seed: int, start: int = 0) -> Iterator[np.ndarray]:
    """Like ``batches``, but the examples of a mini-batch always meet: an epoch shuffles batches.

    This is what Section 4.2.1 abolishes by "shuffling more thoroughly". The mini-batches are
    composed once, from the seed; the n % batch_size examples that fill none are never seen.
    """
    composed = list(islice(batches(n, batch_size, seed), n // batch_size))
    for order in batches(len(composed), 1, seed + 1, start):
        yield composed[order[0]]


def coloured(data: Dataset, size: int) -> Dataset:
    """Grey images for Inception: `size` x `size` pixels, each repeated, in three equal colours.

    White becomes 255, as in photographs: ``pictures.distort`` counts light on that scale.

    Shapes: images (n, h, w) -> (n, size, size, 3) uint8. ValueError where h or w does not divide
    it.
    """
    height, width = data.train_images.shape[1:]
    if size % height or size % width:
        pixels = f"{data.name} has {height} x {width} pixels"
        raise ValueError(f"size={size}: {pixels}; give a multiple of both")

    def enlarged(images: np.ndarray) -> np.ndarray:
        large = images.repeat(size // height, axis=1).repeat(size // width, axis=2)
        stretched = (large.astype(np.uint16) * 255 // data.white).astype(np.uint8)
        return np.repeat(stretched[..., None], 3, axis=3)

    train, test = enlarged(data.train_images), enlarged(data.test_images)
    return replace(data, train_images=train, test_images=test, white=255)


def _batches(n: int, batch_size: int, seed: int, start: int) -> Iterator[np.ndarray]:
    per_epoch = n // batch_size
    first_epoch, skipped = divmod(start, per_epoch)
    for epoch in count(first_epoch):
        order = np.random.default_rng([seed, epoch]).permutation(n)  # (n,), int64
        yield from order[: per_epoch * batch_size].reshape(per_epoch, batch_size)[skipped:]
        skipped = 0


# Files


def _idx(name: str) -> _Idx:
    if name not in _IDX:
        raise DataError(f"there is no data set {name!r}; there are: {', '.join(names())}")
    return _IDX[name]


def _verified(name: str, file: str) -> bytes:
    """The content of one file, found or downloaded: the very bytes that were hashed."""
    idx = _idx(name)
    size, digest = idx.files[file]
    source = published.Source(name, idx.mirrors, idx.files, DIGITS)
    return published.content(source, file, digest, size)


def _read_idx(content: bytes) -> np.ndarray:
    """The array in an IDX file: 0, 0, type (8: uint8), number of axes; big-endian lengths; data."""
    axes = content[3]
    shape = np.frombuffer(content, ">i4", count=axes, offset=4)
    # writable, as torch wants it
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape).copy()


def _digest(*contents: bytes) -> str:
    return digest_of(hashlib.sha256(content).hexdigest() for content in contents)


def _digits_of_scikit_learn() -> np.ndarray:
    """Its 1,797 digits in its order: 64 pixels and the label, (1797, 65).

    Read from the file that ``load_digits`` reads, since importing scikit-learn takes longer than
    most chapters' work; by ``load_digits`` itself should the file lie elsewhere one day.
    """
    package = importlib.util.find_spec("sklearn")
    file = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz" if package else None
    if file and file.is_file():
        return np.loadtxt(file, np.int64, delimiter=",")
    from sklearn.datasets import load_digits

    return np.column_stack(load_digits(return_X_y=True)).astype(np.int64)


def _load_digits() -> Dataset:
    """scikit-learn's 1,797 digits of 8 x 8 pixels, shuffled once for all; 1,500 are to train."""
    rows = _digits_of_scikit_learn()
    # neighbours in the file have one writer
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    images, labels = rows[:, :-1].reshape(-1, 8, 8).astype(np.uint8), rows[:, -1].astype(np.int64)
    digest = _digest(images.tobytes(), labels.astype("<i8").tobytes())
    if digest != _DIGITS_DIGEST:
        what = "the digits of this scikit-learn, or NumPy's shuffle of them"
        raise DataError(
            f"{what}, are not those of the book.\n"
            f"  expected SHA-256 {_DIGITS_DIGEST}\n  found    SHA-256 {digest}\n"
            "Install the versions of requirements.lock (make setup)."
        )
    parts = (images[:1500], labels[:1500], images[1500:], labels[1500:])
    return Dataset("digits", *parts, _DIGITS, white=16, digest=digest)
