"""Trees of pictures in any packing give the same arrays, and whatever is wrong with one is said
once and clearly.
"""

import gzip
import hashlib
import io
import os
import random
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from bnkit import datasets, paths
from bnkit.__main__ import main
from bnkit.datasets import pictures, trees


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty checkout, so that caches and data sets are the test's own; its folder for decoded
    pictures."""
    (tmp_path / "home" / "chapters").mkdir(parents=True)
    monkeypatch.setenv("BNKIT_ROOT", str(tmp_path / "home"))
    monkeypatch.delenv("BNKIT_DATA", raising=False)
    return tmp_path / "home" / "data" / "cache" / "pictures"


# Small trees, made here


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flat(colour, mode="RGB", kind="PNG", size=(12, 12), **options):
    return encoded(Image.new(mode, size, colour), kind, **options)


def noise(seed, size=(12, 12), kind="PNG"):
    levels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return encoded(Image.fromarray(levels), kind)


def pixels(content):
    return np.asarray(Image.open(io.BytesIO(content)))


# Names in another order than the sorted one; 10 stands before 2 there.
TREE = {
    "train/b/2.png": flat((0, 0, 255)),
    "train/b/10.png": noise(1),
    "train/a/1.png": flat((255, 0, 0)),
    "val/b/1.png": flat((0, 0, 200)),
    "val/a/1.png": noise(2),
}


def without(*names):
    return {name: content for name, content in TREE.items() if not name.startswith(names)}


def write_folder(place, files):
    for name, content in files.items():
        path = place / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.write_bytes(content)
    return place


def write_zip(place, files, method=zipfile.ZIP_STORED):
    place.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(place, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return place


def write_tgz(place, files, kind=tarfile.REGTYPE):
    with tarfile.open(place, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.size = len(content)
            info.type = tarfile.DIRTYPE if name.endswith("/") else kind
            archive.addfile(info, io.BytesIO(content))
    return place


def write_zips(place, files):
    for part in ("train", "val"):
        write_zip(
            place / f"{part}.zip",
            {name: each for name, each in files.items() if name.startswith(part)},
        )
    if "classes.csv" in files:
        (place / "classes.csv").write_bytes(files["classes.csv"])
    return place


PACKINGS = {"tree": write_folder, "tree.zip": write_zip, "tree.tgz": write_tgz, "zips": write_zips}


def load(place, size=12, **options):
    return pictures.load(place, size, **options)


def assert_is_tree(found):
    """The five pictures of TREE, pixel by pixel, in sorted order."""
    for images, names in (
        (found.train_images, ("train/a/1", "train/b/10", "train/b/2")),
        (found.test_images, ("val/a/1", "val/b/1")),
    ):
        np.testing.assert_array_equal(
            images, np.stack([pixels(TREE[f"{name}.png"]) for name in names])
        )
    assert found.train_labels.tolist() == [0, 1, 1]
    assert found.test_labels.tolist() == [0, 1]
    assert found.classes == ("a", "b")
    assert found.skipped == 0


# Any packing, the same arrays


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_packing_gives_the_same_arrays(packing, tmp_path):
    found = load(PACKINGS[packing](tmp_path / packing, TREE))
    assert_is_tree(found)
    assert (found.name, found.names, found.size, found.white) == (
        packing.partition(".")[0],
        ("a", "b"),
        12,
        255,
    )
    assert found.train_labels.dtype == found.test_labels.dtype == np.int64
    for images in (found.train_images, found.test_images):
        assert isinstance(images, np.memmap)
        assert not images.flags.writeable


BESIDE = {
    "README": b"read me",
    "test/images/7.png": b"of no part that is read",
    "train/.DS_Store": b"hidden",
    "train/a/.1.png": b"hidden too",
    "train/b/boxes.txt": b"well known",
    "val/LICENSE": b"well known",
    "train/a/": b"",
}


@pytest.mark.parametrize("packing", ["tree", "tree.zip", "tree.tgz"])
@pytest.mark.parametrize("prefix", ["", "set-v2/"])
def test_what_usually_lies_beside_pictures_is_left_alone(packing, prefix, tmp_path):
    files = {prefix + name: content for name, content in (TREE | BESIDE).items()}
    assert_is_tree(load(PACKINGS[packing](tmp_path / packing, files)))


def test_names_that_begin_with_a_dot_and_a_slash(tmp_path):
    assert_is_tree(
        load(
            write_tgz(
                tmp_path / "dotted.tar.gz", {"./": b""} | {f"./{n}": c for n, c in TREE.items()}
            )
        )
    )


def test_a_class_may_be_called_train(tmp_path):
    files = {name.replace("/b/", "/train/"): content for name, content in TREE.items()}
    assert load(write_zip(tmp_path / "x.zip", files)).classes == ("a", "train")


@pytest.mark.parametrize("packing", PACKINGS)
def test_classes_csv_gives_readable_names(packing, tmp_path):
    table = b"label,wnid,name\r\n0,a,\xc3\xa9pagneul\r\n7,other,not here\r\n"
    found = load(PACKINGS[packing](tmp_path / packing, TREE | {"classes.csv": table}))
    assert found.names == ("épagneul", "b")  # what is not in the table keeps the folder's name
    assert_is_tree(found)


def test_tiny_imagenet_is_read_as_it_is_published(tmp_path):
    files = {
        f"tiny/{name.replace('/1.', '/images/1.')}": each
        for name, each in TREE.items()
        if "train" in name
    }
    files |= {
        "tiny/val/images/val_0.png": TREE["val/b/1.png"],
        "tiny/val/images/val_1.png": TREE["val/a/1.png"],
    }
    files["tiny/val/val_annotations.txt"] = b"val_0.png\tb\t0\t0\t9\t9\nval_1.png\ta\t0\t0\t9\t9\n"
    assert_is_tree(load(write_zip(tmp_path / "tiny.zip", files)))
    files["tiny/val/images/val_2.png"] = noise(3)
    with pytest.raises(
        datasets.DataError, match=r"does not say which class 'tiny/val/images/val_2.png' is"
    ):
        load(write_zip(tmp_path / "tiny.zip", files))


def test_batches_index_the_arrays_into_memory(tmp_path):
    found = load(write_folder(tmp_path / "tree", TREE))
    batch = found.train_images[next(datasets.batches(3, 2, seed=0))]
    assert type(batch) is np.ndarray
    assert batch.flags.writeable
    assert batch.shape == (2, 12, 12, 3)


# One picture


def decoded(content, size=12):
    return pictures._decoded(content, size)


GREY_16 = Image.fromarray(np.full((12, 12), 25_700, np.uint16))  # 25,700 / 65,535 is 100 / 255
CLEAR_RED = (255, 0, 0, 102)  # 40 % red on white: 255, 153, 153


@pytest.mark.parametrize(
    ("content", "colour"),
    [
        (flat(100, "L"), (100, 100, 100)),
        (flat((100, 102), "LA"), (193, 193, 193)),
        (flat(1, "1"), (255, 255, 255)),
        (flat(CLEAR_RED, "RGBA"), (255, 153, 153)),
        (flat(CLEAR_RED, "RGBA", "WEBP", lossless=True), (255, 153, 153)),
        (flat((9, 8, 7), transparency=(9, 8, 7)), (255, 255, 255)),
        (encoded(Image.new("RGB", (12, 12), (9, 8, 7)).quantize(4)), (9, 8, 7)),
        (encoded(Image.new("P", (12, 12), 3), "GIF", transparency=3), (255, 255, 255)),
        (flat((0, 255, 255, 0), "CMYK", "TIFF"), (255, 0, 0)),
        (flat((0, 255, 255, 0), "CMYK", "JPEG", quality=100), (255, 0, 0)),
        (encoded(GREY_16), (100, 100, 100)),
        (encoded(GREY_16, "TIFF"), (100, 100, 100)),
        (b"P5 1 1 65535\n" + bytes([0x64, 0x64]), (100, 100, 100)),
    ],
    ids=lambda each: each[:4].hex() if isinstance(each, bytes) else "-".join(map(str, each)),
)
def test_every_mode_becomes_rgb(content, colour):
    found = decoded(content)
    assert found.shape == (12, 12, 3)
    assert found.dtype == np.uint8
    difference = np.abs(found - np.array(colour))
    assert difference.max() <= (2 if b"Adobe" in content else 0)  # CMYK as JPEG is lossy


def test_sixteen_bits_keep_black_and_white():
    # half of a grey level, 128.5, is between the last two
    levels = np.array([[0, 65_535], [128, 129]], np.uint16)
    assert decoded(encoded(Image.fromarray(levels)), 2)[..., 0].tolist() == [[0, 255], [0, 1]]


def test_the_centre_is_what_is_kept():
    thirds = np.repeat(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8), 10, axis=1)
    wide = np.repeat(thirds, 10, axis=0)  # 10 high and 30 wide: red, green, blue
    for image in (wide, wide.transpose(1, 0, 2)):
        found = decoded(encoded(Image.fromarray(image)), 10)
        np.testing.assert_array_equal(found, np.full((10, 10, 3), (0, 255, 0)))


@given(st.tuples(st.integers(1, 40), st.integers(1, 40)), st.integers(1, 32))
@settings(max_examples=40, deadline=None)
def test_crop_and_size_are_those_of_pillow(shape, size):
    """Pillow's own way to fit a picture into a square; where much is left out, ours averages first
    and may differ."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    fitted = np.asarray(ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)).astype(int)
    difference = np.abs(decoded(encoded(image), size) - fitted)
    assert difference.max() <= (0 if min(shape) < 6 * size else 40)


def test_a_large_jpeg_decoded_small_looks_the_same():
    rows, columns = np.mgrid[:300, :400]
    waves = 127 + 60 * np.sin(rows / 15) + 60 * np.cos(columns / 11)
    image = Image.fromarray(
        np.stack([waves, waves[::-1], waves[:, ::-1]], axis=-1).astype(np.uint8)
    )
    content = encoded(image, "JPEG", quality=95)
    whole = np.asarray(
        ImageOps.fit(Image.open(io.BytesIO(content)), (32, 32), Image.Resampling.LANCZOS)
    )
    difference = np.abs(decoded(content, 32) - whole.astype(int))
    assert difference.mean() < 1
    assert difference.max() < 8


# Broken pictures


def bomb(width, height):
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind, body):
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


PHOTO = noise(7, (64, 48), "JPEG")
BROKEN = {
    "empty": (b"", "empty"),
    "words": (b"<html>404</html>", "not a picture"),
    "half": (PHOTO[: len(PHOTO) // 2], "truncated"),
    "no end": (PHOTO[:-40], "truncated"),
    "half png": (noise(8)[:200], "truncated"),
    "bomb": (bomb(10_000, 10_000), "10000 x 10000 pixels; at most 89,478,485"),
    "large bomb": (bomb(50_000, 50_000), "decompression bomb"),
    "float": (flat(0.5, "F", "TIFF"), "32 bits"),
    "32 bits": (flat(70_000, "I", "TIFF"), "32 bits"),
    "program": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not a picture"),
}


@pytest.mark.parametrize("damage", BROKEN)
def test_a_broken_picture_is_named_or_skipped_and_counted(damage, tmp_path):
    content, reason = BROKEN[damage]
    place = write_folder(tmp_path / "tree", TREE | {"train/b/1x.jpg": content})
    for _ in range(2):  # decoding, and from the cache
        with pytest.raises(datasets.DataError) as caught:
            load(place)
        told = str(caught.value)
        assert "holds 1 broken picture:\n  'train/b/1x.jpg': " in told
        assert reason in told
        assert 'on_broken="skip"' in told
        assert told.count("\n") == 2
    found = load(place, on_broken="skip")
    assert found.skipped == 1
    assert found.train_labels.tolist() == [0, 1, 1]
    np.testing.assert_array_equal(found.train_images[1], pixels(TREE["train/b/10.png"]))
    np.testing.assert_array_equal(found.train_images[2], pixels(TREE["train/b/2.png"]))


@pytest.mark.parametrize("packing", PACKINGS)
def test_many_broken_pictures_leave_no_gap(packing, tmp_path):
    """Broken ones first, in the middle, last; 102 rows shrink to 95, a number with fewer digits."""
    bad = {0, 1, 2, 50, 77, 99, 100}
    files = {
        f"train/b/{i:03}.png": b"broken" if i in bad else flat((i, i, i))
        for i in reversed(range(101))
    }
    files |= without("train/b")
    place = PACKINGS[packing](tmp_path / packing, files)
    with pytest.raises(datasets.DataError, match="holds 7 broken pictures") as caught:
        load(place, 2)
    assert "and 2 more" in str(caught.value)
    found = load(place, 2, on_broken="skip")
    assert found.skipped == 7
    assert found.train_images.shape == (95, 2, 2, 3)
    assert found.train_images[1:, 0, 0, 0].tolist() == [i for i in range(101) if i not in bad]
    assert found.train_labels.tolist() == [0] + 94 * [1]
    (file,) = tmp_path.glob("home/data/cache/pictures/*/train.npy")
    assert file.stat().st_size < 95 * 12 + 200  # closed up, not padded


def test_a_class_of_broken_pictures_cannot_be_skipped(tmp_path, home):
    place = write_folder(tmp_path / "tree", TREE | {"val/b/1.png": b"broken"})
    with pytest.raises(datasets.DataError, match="no picture of class 'b' is left in val"):
        load(place, on_broken="skip")
    assert not list(home.glob("*-12"))


@pytest.mark.parametrize("packing", PACKINGS)
def test_a_file_too_large_is_not_even_read(packing, tmp_path, monkeypatch):
    monkeypatch.setattr(trees, "MAX_BYTES", 5_000)
    place = PACKINGS[packing](tmp_path / packing, TREE | {"train/a/2.png": bytes(5_001)})
    with pytest.raises(
        datasets.DataError, match=r"'train/a/2.png': 5,001 bytes; at most 5,000 are read"
    ):
        load(place)
    if packing != "tree":  # where it is read only when asked for
        tree = trees.arrange(trees.open_tree(place))
        sizes = {tree.pictures[index].name: len(read()) for index, read in tree.contents()}
        assert sizes == {name: len(content) for name, content in TREE.items()} | {
            "train/a/2.png": 0
        }


def test_trouble_with_a_file_is_not_a_broken_picture(tmp_path, home):
    """It may pass, so it must not be counted, and not be kept in the cache."""
    place = write_folder(tmp_path / "tree", TREE)
    (place / "train/a/2.png").symlink_to(tmp_path / "nothing")
    with pytest.raises(datasets.DataError, match=r"train/a/2.png cannot be read: No such file"):
        load(place, on_broken="skip")
    (tmp_path / "nothing").write_bytes(noise(3))
    assert load(place).skipped == 0


def test_a_picture_lost_between_digest_and_decoding(tmp_path, monkeypatch, home):
    place = write_folder(tmp_path / "tree", TREE)
    arrange = trees.arrange

    def lose(container):
        tree = arrange(container)
        (place / "train/a/1.png").unlink()
        return tree

    monkeypatch.setattr(trees, "arrange", lose)
    with pytest.raises(
        datasets.DataError, match=r"train/a/1.png cannot be read or written: No such file"
    ):
        load(place, on_broken="skip")
    assert not list(home.glob("*-12"))


# Trees that are none


BAD_TREES = {
    "nothing": (
        {"readme.txt": b"x"},
        "holds no pictures in train/; a tree holds train/<class>/<picture>",
    ),
    "no val": (without("val"), "holds no pictures in val/"),
    "no train": (without("train"), "holds no pictures in train/"),
    "empty train class": (TREE | {"train/c/": b""}, "no picture in 'train/c'. Fill or remove it"),
    "empty val class": (TREE | {"val/c/notes.txt": b"x", "val/c/": b""}, "no picture in 'val/c'"),
    "one class": (without("train/b", "val/b"), "only one class, 'a'"),
    "class only in val": (TREE | {"val/c/1.png": noise(1)}, "the same classes; only in val: 'c'"),
    "class only in train": (without("val/b"), "the same classes; only in train: 'b'"),
    "both": (without("val/b") | {"val/c/1.png": noise(1)}, "only in train: 'b'; only in val: 'c'"),
    "no class folder": (
        TREE | {"val/2.jpg": noise(1)},
        "'val/2.jpg' in no class folder. Sort them into folders",
    ),
    "another file": (
        TREE | {"train/a/n.tar": b"x"},
        "'train/a/n.tar' is neither a picture nor a class folder",
    ),
    "no suffix": (TREE | {"train/a/picture": noise(1)}, "'train/a/picture' is neither"),
    "deeper": (
        TREE | {"train/a/deep/": b"", "train/a/deep/1.png": noise(1)},
        "'train/a/deep/' is neither",
    ),
    "bad table": (
        TREE | {"classes.csv": b"class;name\na;b\n"},
        "classes.csv must have the columns wnid",
    ),
    "empty table": (TREE | {"classes.csv": b""}, "classes.csv must have the columns wnid"),
}


@pytest.mark.parametrize("packing", ["tree", "tree.zip", "tree.tgz"])
@pytest.mark.parametrize("fault", BAD_TREES)
def test_a_bad_tree_is_one_clear_error(fault, packing, tmp_path, home):
    files, complaint = BAD_TREES[fault]
    place = PACKINGS[packing](tmp_path / packing, files)
    with pytest.raises(datasets.DataError) as caught:
        load(place)
    assert str(caught.value).startswith(str(place))
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not list(home.glob("*-12"))


def test_a_link_to_a_folder_above_does_not_go_on_for_ever(tmp_path):
    place = write_folder(tmp_path / "tree", TREE)
    (place / "train" / "a" / "up").symlink_to(place / "train")
    with pytest.raises(
        datasets.DataError, match=r"'train/a/up/', .* is neither a picture"
    ) as caught:
        load(place)
    assert str(caught.value).count("/up/a/up/") == 0


def test_linked_pictures_are_pictures(tmp_path):
    write_folder(tmp_path / "elsewhere", TREE)
    place = write_folder(tmp_path / "tree", without("train/b"))
    (place / "train" / "b").symlink_to(tmp_path / "elsewhere" / "train" / "b")
    assert_is_tree(load(place))


def test_many_faults_are_counted_and_not_all_listed(tmp_path):
    place = write_folder(tmp_path / "flat", TREE | {f"val/{i}.jpg": b"" for i in range(1_200)})
    with pytest.raises(
        datasets.DataError, match=r"'val/1000.jpg' and 1,195 more in no class folder"
    ):
        load(place)


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        (
            "imagenet21k",
            "there is no data set and no path 'imagenet21k'. Give imagenette, or the path",
        ),
        ("", "no path ''"),
        ("\0", "no path '.x00'"),
        (__file__, "neither a folder nor a .zip, .tgz or .tar.gz"),
    ],
)
def test_no_source(source, complaint):
    with pytest.raises(datasets.DataError, match=complaint):
        pictures.load(source, 64)


@pytest.mark.parametrize("size", [0, -1, 1025, 64.0, True, "64"])
def test_sizes_that_cannot_be(size):
    with pytest.raises(ValueError, match="whole number of pixels, 1 to 1024"):
        pictures.load("imagenette", size)


def test_choices_that_cannot_be():
    with pytest.raises(ValueError, match="'refuse' or 'skip'"):
        pictures.load("imagenette", 64, on_broken="ignore")


# Archives that nobody should trust

UNSAFE = [
    "../train/a/9.png",
    "train/../../a/9.png",
    "/train/a/9.png",
    "train//9.png",
    "C:/train/9.png",
    "train\\a\\9.png",
]


@pytest.mark.parametrize("write", [write_zip, write_tgz])
@pytest.mark.parametrize("name", UNSAFE)
def test_names_that_lead_out_of_the_archive_are_refused(write, name, tmp_path):
    place = write(tmp_path / f"x.{write.__name__[6:]}", TREE | {name: noise(1)})
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(datasets.DataError) as caught:
        load(place)
    assert f"is refused: {name!r} is not a plain name" in str(caught.value)
    new = set(tmp_path.rglob("*")) - set(before)
    assert all(
        tmp_path / "home" / "data" in path.parents or path == tmp_path / "home" / "data"
        for path in new
    )


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_links_and_devices_in_a_tgz_are_refused(kind, tmp_path):
    place = tmp_path / "x.tgz"
    with tarfile.open(place, "w:gz") as archive:
        info = tarfile.TarInfo("train/a/1.png")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(datasets.DataError, match=r"'train/a/1\.png' is a link or a device"):
        load(place)


def test_links_in_a_zip_are_refused(tmp_path):
    link = zipfile.ZipInfo("train/a/1.png")
    link.create_system, link.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr(link, "/etc/passwd")
    with pytest.raises(datasets.DataError, match=r"'train/a/1\.png' is a link or a device"):
        load(tmp_path / "x.zip")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_name_twice_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name, content in [*TREE.items(), ("train/a/1.png", noise(9))]:
            archive.writestr(name, content)
    with pytest.raises(datasets.DataError, match=r"holds 'train/a/1\.png' twice"):
        load(tmp_path / "x.zip")


def test_an_encrypted_zip_says_so(tmp_path):
    place = write_zip(tmp_path / "x.zip", TREE)
    content = bytearray(place.read_bytes())
    for mark, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(mark)
        while start >= 0:
            content[start + flags] |= 1
            start = content.find(mark, start + 1)
    place.write_bytes(content)
    with pytest.raises(datasets.DataError, match="encrypted"):
        load(place)


def test_a_member_that_claims_more_than_gzip_can_pack(tmp_path):
    place = write_tgz(tmp_path / "x.tgz", TREE)
    content = bytearray(gzip.decompress(place.read_bytes()))
    # the size of the first member, in base 256
    content[124:136] = b"\x80" + (1 << 60).to_bytes(11, "big")
    content[148:156] = b" " * 8
    content[148:156] = b"%06o\0 " % sum(content[:512])
    place.write_bytes(gzip.compress(content))
    started = time.monotonic()
    with pytest.raises(datasets.DataError, match="cannot have 1,152,921,504,606,846,976 bytes"):
        load(place)
    assert time.monotonic() - started < 5


def test_a_tgz_that_ends_at_a_damaged_header_is_not_taken_for_a_shorter_one(tmp_path):
    place = write_tgz(tmp_path / "x.tgz", TREE | {"val/a/2.png": noise(3)})
    content = gzip.decompress(place.read_bytes())
    # its checksum is wrong now
    place.write_bytes(gzip.compress(content.replace(b"val/a/2.png", b"val/a/3.png")))
    with pytest.raises(datasets.DataError, match="goes on after its end"):
        load(place)


def test_the_checksum_at_the_end_of_a_tgz_counts(tmp_path):
    place = write_tgz(tmp_path / "x.tgz", TREE)
    content = bytearray(place.read_bytes())
    content[-8] ^= 1  # of eight bytes: four of the checksum, four of the length
    place.write_bytes(content)
    with pytest.raises(datasets.DataError, match=r"truncated or damaged .CRC check failed"):
        load(place)


def test_half_of_the_zips_is_not_enough(tmp_path):
    place = write_zips(tmp_path / "zips", TREE)
    (place / "val.zip").unlink()
    with pytest.raises(datasets.DataError, match=r"val.zip is missing: a folder holds both"):
        load(place)


@pytest.mark.parametrize("packing", ["tree.zip", "tree.tgz"])
def test_a_damaged_archive_is_refused_or_gives_the_same_pictures(packing, tmp_path):
    """Cut off or with a bit turned over, anywhere: never another exception, never other pixels."""
    place = PACKINGS[packing](tmp_path / packing, TREE)
    whole, chance, refused = place.read_bytes(), random.Random(0), 0
    for trial in range(60):
        content = bytearray(whole)
        if trial % 5:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        else:
            del content[chance.randrange(len(content)) :]
        place.write_bytes(content)
        try:
            found = load(place)
        except datasets.DataError:
            refused += 1
        else:
            assert_is_tree(found)
    assert refused > 40


# The cache


def test_the_second_load_decodes_nothing_and_reads_no_picture(tmp_path, monkeypatch):
    place = write_folder(tmp_path / "tree", TREE)
    first = load(place)
    monkeypatch.setattr(pictures, "_decoded", None)
    monkeypatch.setattr(trees, "file_digest", None)
    second = load(place)
    assert_is_tree(second)
    assert second.digest == first.digest


def test_sizes_and_contents_have_places_of_their_own(tmp_path, home):
    place = write_folder(tmp_path / "tree", TREE)
    first, small = load(place), load(place, 5)
    assert small.train_images.shape == (3, 5, 5, 3)
    assert small.digest == first.digest
    (place / "train/a/1.png").write_bytes(noise(9))
    changed = load(place)
    assert changed.digest != first.digest
    np.testing.assert_array_equal(changed.train_images[0], pixels(noise(9)))
    assert sorted(path.name for path in home.glob("[0-9a-f]*-*")) == sorted(
        [f"{first.digest[:16]}-12", f"{first.digest[:16]}-5", f"{changed.digest[:16]}-12"]
    )


@pytest.mark.parametrize("packing", PACKINGS)
def test_the_digest_is_of_the_source_and_not_of_its_place(packing, tmp_path):
    place, other = PACKINGS[packing](tmp_path / packing, TREE), tmp_path / f"other-{packing}"
    (shutil.copytree if place.is_dir() else shutil.copy)(place, other)
    assert load(other).digest == load(place).digest


def test_an_empty_class_folder_is_seen_although_the_pictures_are_known(tmp_path):
    place = write_folder(tmp_path / "tree", TREE)
    load(place)
    (place / "train" / "c").mkdir()
    with pytest.raises(datasets.DataError, match="no picture in 'train/c'"):
        load(place)


def test_a_new_size_is_never_decoded_under_an_old_digest(tmp_path):
    """A file changed so that neither size nor time tells: what is in the cache stays what its
    digest says."""
    place = write_folder(tmp_path / "tree", TREE)
    file, first = place / "train/a/1.png", load(place)
    facts = file.stat()
    content = flat((254, 0, 0))
    file.write_bytes(content + bytes(facts.st_size - len(content)))
    assert file.stat().st_size == facts.st_size
    os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert load(place, 5).digest != first.digest


def test_a_source_that_changes_meanwhile_is_not_kept(tmp_path, monkeypatch, home):
    place = write_zip(tmp_path / "x.zip", TREE)
    write = pictures._write

    def change(*arguments):
        write(*arguments)
        write_zip(place, TREE | {"train/a/2.png": noise(4)})

    monkeypatch.setattr(pictures, "_write", change)
    with pytest.raises(datasets.DataError, match="changed while it was read; nothing is kept"):
        load(place)
    assert not list(home.glob("*-12"))


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("train.npy", lambda content: content[:-1]),
        ("train.npy", lambda content: b""),
        ("val-labels.npy", lambda content: content[:40]),
        ("index.json", lambda content: content[:-9]),
        ("index.json", lambda content: b"[]"),
    ],
)
def test_a_damaged_cache_says_what_to_remove(file, damage, tmp_path, home):
    place = write_folder(tmp_path / "tree", TREE)
    load(place)
    (folder,) = home.glob("*-12")
    (folder / file).write_bytes(damage((folder / file).read_bytes()))
    with pytest.raises(datasets.DataError, match=f"{folder.name} is damaged. Remove it"):
        load(place)


def test_too_little_space_is_said_before_the_work(tmp_path, monkeypatch):
    place = write_folder(tmp_path / "tree", TREE)
    monkeypatch.setattr(
        pictures.shutil, "disk_usage", lambda _: pictures.shutil._ntuple_diskusage(10, 9, 1)
    )
    with pytest.raises(datasets.DataError, match=r"has 0.0 GB free and 0.0 GB are needed"):
        load(place)


def test_a_cache_that_cannot_be_written(tmp_path, home):
    home.parent.mkdir(parents=True)
    home.write_text("a file where the folder must be")
    with pytest.raises(datasets.DataError, match=f"{home}.* cannot be read or written: "):
        load(write_folder(tmp_path / "tree", TREE))


# In a process of its own: decode slowly, say so, and tell at the end how many pictures were decoded
# here.
SLOWLY = """
import sys, time
from bnkit.datasets import pictures
quick, count = pictures._decoded, []
def slow(content, size):
    time.sleep(0.02)
    count.append(1)
    return quick(content, size)
pictures._decoded = slow
found = pictures.load(sys.argv[1], 12)
print(len(count), len(found.train_labels), len(found.test_labels))
"""


def start(place):
    return subprocess.Popen(
        [sys.executable, "-c", SLOWLY, str(place)], stdout=subprocess.PIPE, text=True
    )


def many(place, count=200):
    return write_folder(place, TREE | {f"train/a/x{i}.png": flat((i, 0, 0)) for i in range(count)})


def test_a_kill_in_the_middle_leaves_nothing_that_is_taken_for_whole(tmp_path, home):
    place = many(tmp_path / "tree")
    process = start(place)
    deadline = time.monotonic() + 60
    while not any(
        path.stat().st_size > 12 * 12 * 3 * 20 for path in home.glob(".*.part/train.npy")
    ):
        assert process.poll() is None, "it ended before it was in the middle"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    process.stdout.close()
    (left,) = home.glob(".*.part")
    assert (left / "train.npy").exists()
    assert not list(home.glob("*-12"))
    found = load(place)
    assert found.train_images.shape == (203, 12, 12, 3)
    assert sorted(found.train_images[1:201, 0, 0, 0].tolist()) == list(range(200))
    assert not left.exists()


def test_two_processes_decode_once(tmp_path):
    place = many(tmp_path / "tree", 60)
    both = [start(place) for _ in range(2)]
    counts = sorted(process.communicate(timeout=60)[0] for process in both)
    assert counts == ["0 63 2\n", "65 63 2\n"]


def test_decoding_reads_only_a_little_ahead():
    asked = []

    def jobs():
        for number in range(100):
            asked.append(number)
            yield number

    with ThreadPoolExecutor(4) as pool:
        for done, result in enumerate(
            pictures._in_order(pool, lambda number: number, jobs(), ahead=10)
        ):
            assert result == done
            assert len(asked) <= done + 11
    assert done == 99


# Published sets


@pytest.fixture
def tiny(monkeypatch, home):
    """A set of the name `tiny` with published digests; the folder in which it is looked for."""
    place = write_zips(
        home.parent / "tiny", TREE | {"classes.csv": b"label,wnid,name\n0,a,ant\n1,b,bee\n"}
    )
    contents = {path.name: path.read_bytes() for path in place.iterdir()}
    files = {
        name: (len(contents[name]), hashlib.sha256(contents[name]).hexdigest())
        for name in ("train.zip", "val.zip", "classes.csv")
    }
    monkeypatch.setitem(pictures._CARDS, "tiny", pictures._Card(files, (3, 2), "ask somebody"))
    return place


def test_a_set_by_name(tiny):
    assert pictures.available("tiny")
    found = load("tiny")
    assert_is_tree(found)
    assert (found.name, found.names) == ("tiny", ("ant", "bee"))


@pytest.mark.parametrize("file", ["train.zip", "val.zip", "classes.csv"])
def test_an_altered_file_of_a_set_is_refused_and_kept(file, tiny, home):
    load("tiny")
    content = (tiny / file).read_bytes()
    altered = content[:-1] + bytes([content[-1] ^ 1])
    (tiny / file).write_bytes(altered)
    with pytest.raises(datasets.DataError, match="missing, truncated or altered") as caught:
        load("tiny")
    for words in (
        str(tiny / file),
        *(hashlib.sha256(each).hexdigest() for each in (content, altered)),
    ):
        assert words in str(caught.value)
    assert (tiny / file).read_bytes() == altered
    assert len(list(home.glob("*-12"))) == 1  # nothing was decoded from the altered file


def test_a_set_without_its_table_is_not_the_set(tiny):
    (tiny / "classes.csv").unlink()
    assert not pictures.available("tiny")
    with pytest.raises(
        datasets.DataError, match=r"classes.csv is missing.*\n.*\n.*there is no such file"
    ):
        load("tiny")


def test_a_whole_set_is_preferred_to_half_a_set(tiny, tmp_path, monkeypatch):
    write_folder(tmp_path / "mine" / "tiny", {"train.zip": b"half"})
    monkeypatch.setenv("BNKIT_DATA", str(tmp_path / "mine"))
    assert_is_tree(load("tiny"))


def test_a_set_that_is_not_here_names_the_ways_to_get_it(home):
    assert not pictures.available("imagenette")
    with pytest.raises(datasets.DataError) as caught:
        pictures.load("imagenette", 64)
    for words in (
        "Three remedies",
        str(home.parent / "imagenette"),
        "BNKIT_DATA",
        "imagenette2-160.tgz",
        "digits",
    ):
        assert words in str(caught.value)
    assert not paths.cache().exists()


def test_the_command_line_says_it_too(capsys):
    assert main(["data", "imagenette"]) == 1
    assert capsys.readouterr().err.startswith("error: imagenette is not here.")


TRAIN = [963, 955, 993, 858, 941, 956, 961, 931, 951, 960]
TEST = [387, 395, 357, 386, 409, 394, 389, 419, 399, 390]


def test_imagenette_comes_out_as_published(monkeypatch):
    monkeypatch.undo()
    if not pictures.available("imagenette"):
        pytest.skip("the files of imagenette are not here; put them where data/README.md says")
    found = pictures.load("imagenette", 16)
    assert found.train_images.shape == (9_469, 16, 16, 3)
    assert found.test_images.shape == (3_925, 16, 16, 3)
    assert np.bincount(found.train_labels).tolist() == TRAIN
    assert np.bincount(found.test_labels).tolist() == TEST
    assert (found.names[0], found.names[9]) == ("tench", "parachute")
    mean = found.train_images.mean(axis=(0, 1, 2)) / 255
    assert mean == pytest.approx([0.462, 0.458, 0.430], abs=1e-3)


def test_the_data_card_gives_the_sizes_digests_and_counts(monkeypatch):
    monkeypatch.undo()
    card = (paths.root() / "data" / "README.md").read_text(encoding="utf-8")
    for file, (size, digest) in pictures._CARDS["imagenette"].files.items():
        assert f"| `{file}` | {size:,} | `{digest}` |" in card
    for counts in (TRAIN, TEST):
        assert " ".join(map(str, counts)) in " ".join(card.split())
    assert pictures._CARDS["imagenette"].counts == (sum(TRAIN), sum(TEST))


# Distortions


def batch(m=64, s=8):
    return np.random.default_rng(0).integers(0, 256, (m, s, s, 3), dtype=np.uint8)


def test_distort_without_strength_changes_nothing():
    np.testing.assert_array_equal(pictures.distort(batch(), np.random.default_rng(1)), batch())


def test_distort_moves_as_numpy_pads():
    """Every picture is a window into the picture padded by reflection, or its mirror image; all of
    them occur."""
    images = batch()
    moved = pictures.distort(images, np.random.default_rng(1), shift=3, flip=True)
    np.testing.assert_array_equal(images, batch())
    seen = set()
    for image, out in zip(images, moved, strict=True):
        padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="reflect")
        windows = {
            (top, left, mirrored): padded[top : top + 8, left : left + 8][
                :, :: -1 if mirrored else 1
            ]
            for top in range(7)
            for left in range(7)
            for mirrored in (False, True)
        }
        (match,) = [key for key, window in windows.items() if np.array_equal(window, out)]
        seen.add(match)
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(7))
    assert {mirrored for _, _, mirrored in seen} == {False, True}


@given(st.integers(1, 12), st.data())
@settings(max_examples=50, deadline=None)
def test_distort_takes_pixels_from_where_it_says(s, data):
    """Pictures whose pixels are their own places: what comes out is a grid that never turns back
    and zooms as asked."""
    shift, scale = data.draw(st.integers(0, s - 1)), data.draw(st.floats(0.05, 1))
    images = np.zeros((5, s, s, 3), np.uint8)
    images[..., 0], images[..., 1] = np.arange(s)[:, None], np.arange(s)
    moved = pictures.distort(images, np.random.default_rng(s), shift, scale=scale).astype(int)
    rows, columns = moved[..., 0], moved[..., 1]
    assert (rows == rows[:, :, :1]).all()
    assert (columns == columns[:, :1]).all()
    if shift == 0:
        for places in (rows[:, :, 0], columns[:, 0]):
            steps = np.diff(places)
            assert ((steps >= 0) & (steps <= 1)).all()
            span = places[:, -1] - places[:, 0] + 1
            assert (span >= scale * (s - 1)).all()
            assert (span <= s).all()


def test_distort_zooms_differently_for_each_picture():
    images = np.zeros((200, 20, 20, 3), np.uint8)
    images[...] = np.arange(20)[None, :, None, None]
    span = (
        np.ptp(
            pictures.distort(images, np.random.default_rng(0), scale=0.5)[:, :, 0, 0].astype(int),
            axis=1,
        )
        + 1
    )
    assert span.min() in (10, 11)
    assert span.max() in (19, 20)
    assert span.mean() == pytest.approx(15.2, abs=0.7)  # sides are uniform from 10 to 20 pixels


def test_light_is_one_rising_curve_for_each_picture():
    images = batch(50)
    lit = pictures.distort(images, np.random.default_rng(0), light=0.4)
    np.testing.assert_array_equal(images, batch(50))
    gains, offsets = [], []
    for image, out in zip(images, lit, strict=True):
        order = np.argsort(image, axis=None)
        assert (np.diff(out.ravel()[order].astype(int)) >= 0).all()
        inside = (out > 0) & (out < 255)
        gain, offset = np.polyfit(image[inside].astype(float), out[inside], 1)
        assert 0.59 <= gain <= 1.41
        gains.append(gain)
        # how much lighter a middle grey became
        offsets.append((gain * 127.5 + offset - 127.5) / 255)
    assert np.ptp(gains) > 0.6
    assert np.abs(offsets).max() <= 0.41
    assert np.ptp(offsets) > 0.6


def test_distort_is_repeatable_and_takes_its_chance_from_the_generator_alone():
    def once(seed):
        return pictures.distort(batch(), np.random.default_rng(seed), 2, True, 0.8, 0.2)

    np.testing.assert_array_equal(once(3), once(3))
    assert (once(3) != once(4)).any()


@pytest.mark.parametrize(
    ("strength", "complaint"),
    [
        ({"shift": 8}, "shift=8: it must be 0 to 7"),
        ({"shift": -1}, "shift=-1"),
        ({"scale": 0.0}, "scale must be above 0 to 1"),
        ({"scale": 1.1}, "scale must be above 0 to 1"),
        ({"light": 1.0}, "light from 0 to below 1"),
        ({"light": -0.1}, "light from 0 to below 1"),
    ],
)
def test_distortions_that_cannot_be(strength, complaint):
    with pytest.raises(ValueError, match=complaint):
        pictures.distort(batch(), np.random.default_rng(0), **strength)
