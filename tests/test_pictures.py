"""Trees of pictures in any packing give the same arrays, and whatever is wrong with one is said once and clearly."""

import io
import tarfile
import zipfile

import numpy as np
import pytest
from PIL import Image

from bnkit import datasets, paths, pictures


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty checkout, so that caches and data sets are the test's own."""
    (tmp_path / "home" / "chapters").mkdir(parents=True)
    monkeypatch.setenv("BNKIT_ROOT", str(tmp_path / "home"))
    monkeypatch.delenv("BNKIT_DATA", raising=False)
    return tmp_path / "home" / "data" / "cache"


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def flat(*colour, size=(12, 12), kind="PNG"):
    return encoded(Image.new("RGB", size, colour), kind)


def noise(seed, size=(12, 12), kind="PNG"):
    levels = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    return encoded(Image.fromarray(levels), kind)


# Two classes, three training and two test pictures; names that sort otherwise than they are written here.
TREE = {
    "train/b/2.png": flat(0, 0, 255),
    "train/b/10.png": noise(1),
    "train/a/1.png": flat(255, 0, 0),
    "val/b/1.png": flat(0, 0, 200),
    "val/a/1.png": noise(2),
}
LABELS = [0, 1, 1]  # train/a/1, train/b/10, train/b/2


def write_folder(place, files):
    for name, content in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)
    return place


def write_zip(place, files):
    place.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(place, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return place


def write_tgz(place, files):
    with tarfile.open(place, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return place


def write_zips(place, files):
    for part in ("train", "val"):
        write_zip(place / f"{part}.zip", {name: each for name, each in files.items() if name.startswith(part)})
    return place


PACKINGS = {"tree": write_folder, "tree.zip": write_zip, "tree.tgz": write_tgz, "zips": write_zips}


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_packing_gives_the_same_arrays(packing, tmp_path):
    found = pictures.load(PACKINGS[packing](tmp_path / packing, TREE), 12)
    expected = [TREE[f"train/{name}.png"] for name in ("a/1", "b/10", "b/2")]
    for image, content in zip(found.train_images, expected, strict=True):
        np.testing.assert_array_equal(image, np.asarray(Image.open(io.BytesIO(content))))
    assert found.train_labels.tolist() == LABELS
    assert found.test_labels.tolist() == [0, 1]
    assert found.train_labels.dtype == np.int64
    assert found.classes == found.names == ("a", "b")
    assert (found.skipped, found.size, found.white) == (0, 12, 255)
    assert isinstance(found.train_images, np.memmap)
    assert not found.train_images.flags.writeable


def test_the_second_load_decodes_nothing(tmp_path, monkeypatch):
    place = write_folder(tmp_path / "tree", TREE)
    first = pictures.load(place, 12)
    monkeypatch.setattr(pictures, "_decoded", None)
    second = pictures.load(place, 12)
    assert second.digest == first.digest
    np.testing.assert_array_equal(second.train_images, first.train_images)


def test_imagenette_comes_out_as_published(monkeypatch, request):
    """The real files, where they are; the counts are of two other witnesses: the card, and the published split."""
    monkeypatch.undo()
    if not pictures.available("imagenette"):
        pytest.skip("the files of imagenette are not here; put them where data/README.md says")
    found = pictures.load("imagenette", 64)
    assert found.train_images.shape == (9_469, 64, 64, 3)
    assert found.test_images.shape == (3_925, 64, 64, 3)
    assert np.bincount(found.train_labels).tolist() == [963, 955, 993, 858, 941, 956, 961, 931, 951, 960]
    assert np.bincount(found.test_labels).tolist() == [387, 395, 357, 386, 409, 394, 389, 419, 399, 390]
    assert found.names[0] == "tench"
    assert found.names[9] == "parachute"
    mean = found.train_images[::10].mean(axis=(0, 1, 2)) / 255
    assert mean == pytest.approx([0.462, 0.458, 0.430], abs=0.005)


def test_a_set_that_is_not_here_names_the_ways_to_get_it(home):
    with pytest.raises(datasets.DataError) as caught:
        pictures.load("imagenette", 64)
    for words in ("Three remedies", str(home / "imagenette"), "BNKIT_DATA", "imagenette2-160.tgz", "digits"):
        assert words in str(caught.value)
    assert not paths.cache().exists()


# Distortions


def test_distort_without_strength_changes_nothing():
    images = np.random.default_rng(0).integers(0, 256, (4, 9, 9, 3), dtype=np.uint8)
    np.testing.assert_array_equal(pictures.distort(images, np.random.default_rng(1)), images)


def test_distort_moves_as_numpy_pads():
    """Every picture is a window into the picture padded by reflection, or its mirror image."""
    images = np.random.default_rng(0).integers(0, 256, (64, 8, 8, 3), dtype=np.uint8)
    moved = pictures.distort(images, np.random.default_rng(1), shift=3, flip=True)
    seen = set()
    for image, out in zip(images, moved, strict=True):
        padded = np.pad(image, ((3, 3), (3, 3), (0, 0)), mode="reflect")
        windows = {
            (top, left, mirrored): padded[top : top + 8, left : left + 8][:, :: -1 if mirrored else 1]
            for top in range(7)
            for left in range(7)
            for mirrored in (False, True)
        }
        (match,) = [key for key, window in windows.items() if np.array_equal(window, out)]
        seen.add(match)
    assert {top for top, _, _ in seen} == {left for _, left, _ in seen} == set(range(7))
    assert {mirrored for _, _, mirrored in seen} == {False, True}
