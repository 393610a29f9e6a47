"""Every byte is verified, a file that is not the published one is never used, and batches are
permutations.
"""

import contextlib
import gzip
import hashlib
import importlib.util
import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bnkit import datasets, paths
from bnkit.datasets import arrays, published

# A data set of four small files, and a server on this machine that serves them well or badly


def idx_file(array):
    """`array` as a gzipped IDX file, written from the format's description, not with our reader."""
    header = bytes([0, 0, 8, array.ndim]) + b"".join(
        length.to_bytes(4, "big") for length in array.shape
    )
    return gzip.compress(header + array.astype(np.uint8).tobytes(), mtime=0)


ARRAYS = [
    np.random.default_rng(0).integers(0, 256, (6, 3, 2)),
    np.array([0, 1, 2, 2, 1, 0]),
    np.random.default_rng(1).integers(0, 256, (4, 3, 2)),
    np.array([2, 0, 1, 1]),
]
FILES = dict(
    zip(("train-x.gz", "train-y.gz", "test-x.gz", "test-y.gz"), map(idx_file, ARRAYS), strict=True)
)


class Server:
    """Serves `contents` (path -> bytes), or what `behave` writes to the connection, and counts what
    was asked for."""

    def __init__(self):
        self.contents, self.behave, self.asked = {}, {}, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                folder, file = self.path.strip("/").split("/")
                if folder in outer.behave:
                    return outer.behave[folder](self, FILES[file])
                content = outer.contents.get((folder, file))
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", len(content or b""))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_):
                pass

        self.httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.httpd.daemon_threads = True
        threading.Thread(target=self.httpd.serve_forever, args=(0.01,), daemon=True).start()
        self.address = f"http://127.0.0.1:{self.httpd.server_port}"

    def mirror(self, folder, files=None):
        self.contents |= {(folder, name): content for name, content in (files or {}).items()}
        return f"{self.address}/{folder}/"


def promise(length):
    def behave(handler, content):
        """Send the header of the whole file and the first `length` bytes, then close."""
        handler.send_response(200)
        handler.send_header("Content-Length", len(content))
        handler.end_headers()
        handler.wfile.write(content[:length])

    return behave


def stall(handler, content):
    """Send half of the file, then nothing for a long while, and the rest to whom still waits."""
    half = len(content) // 2
    promise(half)(handler, content)
    time.sleep(5)
    with contextlib.suppress(OSError):
        handler.wfile.write(content[half:])


@pytest.fixture
def server():
    server = Server()
    yield server
    server.httpd.shutdown()
    server.httpd.server_close()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """An empty checkout, so that nothing is found; its cache folder for the data set `tiny`."""
    (tmp_path / "chapters").mkdir()
    monkeypatch.setenv("BNKIT_ROOT", str(tmp_path))
    monkeypatch.delenv("BNKIT_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path / "data" / "cache" / "tiny"


@pytest.fixture
def tiny(home, monkeypatch):
    """Make the data set `tiny` known, with the mirrors given."""

    def register(*mirrors):
        files = {
            name: (len(content), hashlib.sha256(content).hexdigest())
            for name, content in FILES.items()
        }
        monkeypatch.setitem(arrays._IDX, "tiny", arrays._Idx(("a", "b", "c"), mirrors, files))

    return register


def put(folder, files=FILES):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def assert_is_tiny(data):
    loaded = (data.train_images, data.train_labels, data.test_images, data.test_labels)
    for array, expected in zip(loaded, ARRAYS, strict=True):
        assert array.flags.writeable  # torch.from_numpy warns of others
        assert array.shape == expected.shape
        assert (array == expected).all()
    assert data.train_images.dtype == data.test_images.dtype == np.uint8
    assert data.train_labels.dtype == data.test_labels.dtype == np.int64
    assert (data.name, data.classes, data.white) == ("tiny", ("a", "b", "c"), 255)


# Downloads


def test_what_is_nowhere_is_downloaded_once_and_verified(server, tiny, home):
    tiny(server.mirror("good", FILES))
    assert not datasets.available("tiny")
    assert_is_tiny(datasets.load("tiny"))
    assert {
        path.name: path.read_bytes() for path in home.iterdir() if path.name != ".lock"
    } == FILES
    assert datasets.available("tiny")
    assert_is_tiny(datasets.load("tiny"))
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    "fault", ["missing", "altered", "truncated", "cut off", "not there", "silent"]
)
def test_a_bad_mirror_is_passed_over_for_the_next(server, tiny, home, monkeypatch, fault):
    monkeypatch.setattr(published, "TIMEOUT", (0.3, 0.3))
    bad = server.mirror("bad")
    if fault == "altered":
        server.mirror("bad", {name: content[:-1] + b"?" for name, content in FILES.items()})
    elif fault == "truncated":
        server.mirror("bad", {name: content[:-1] for name, content in FILES.items()})
    elif fault == "cut off":
        server.behave["bad"] = promise(10)
    elif fault == "not there":
        bad = "http://127.0.0.1:9/"  # the discard port, where nobody listens
    elif fault == "silent":
        server.behave["bad"] = stall
    tiny(bad, server.mirror("good", FILES))
    assert_is_tiny(datasets.load("tiny"))
    assert [path for path in server.asked if path.startswith("/good/")] == [
        f"/good/{name}" for name in FILES
    ]


def test_without_network_and_files_the_error_names_the_three_remedies(server, tiny, home):
    altered = {name: content[:-1] + b"?" for name, content in FILES.items()}
    tiny("http://127.0.0.1:9/", server.mirror("empty"), server.mirror("bad", altered))
    with pytest.raises(datasets.DataError) as error:
        datasets.load("tiny")
    message = str(error.value)
    for part in (
        "127.0.0.1:9",
        "404",
        "hash",
        "1. connect",
        "2. put",
        "BNKIT_DATA=",
        "3. choose",
        "'digits'",
    ):
        assert part in message
    for part in (str(home), *FILES):
        assert part in message
    # the address once, and not the library's wrapping of it
    assert message.count("127.0.0.1:9") == 1
    assert [path.name for path in home.iterdir()] == [".lock"]  # nothing bad is kept


def test_a_cache_that_cannot_be_written_is_named(server, tiny, home):
    tiny(server.mirror("good", FILES))
    home.parent.parent.mkdir()
    home.parent.write_text("a file where the folder should be")
    with pytest.raises(datasets.DataError, match="cannot be downloaded into") as error:
        datasets.load("tiny")
    assert str(home) in str(error.value)
    assert server.asked == []


LOAD_TINY = """
import json, sys
from bnkit import datasets
from bnkit.datasets import arrays, published
classes, mirrors, files = json.loads(sys.argv[1])
arrays._IDX["tiny"] = arrays._Idx(classes, mirrors, files)
print(datasets.load("tiny").digest)
"""


def load_elsewhere():
    """Load `tiny` in another process."""
    tiny = arrays._IDX["tiny"]
    command = [
        sys.executable,
        "-c",
        LOAD_TINY,
        json.dumps([tiny.classes, tiny.mirrors, tiny.files]),
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_download_once(server, tiny):
    def slowly(handler, content):
        time.sleep(0.1)
        promise(len(content))(handler, content)

    server.behave["slow"] = slowly
    tiny(server.mirror("slow"))
    processes = [load_elsewhere() for _ in range(2)]
    digests = {process.communicate()[0] for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert len(digests) == 1
    assert len(server.asked) == 4


def test_a_killed_download_leaves_nothing_that_looks_whole(server, tiny, home):
    server.behave["stalled"] = stall
    tiny(server.mirror("stalled"))
    process = load_elsewhere()
    while not server.asked:
        time.sleep(0.01)
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not any((home / name).exists() for name in FILES)
    tiny(server.mirror("good", FILES))  # and the dead process holds no lock
    assert_is_tiny(datasets.load("tiny"))


# Files that are there


def test_given_files_are_used_before_the_cache_and_without_a_network(
    tiny, home, tmp_path, monkeypatch
):
    tiny()
    put(tmp_path / "mine" / "tiny")
    put(home, dict.fromkeys(FILES, b"bad"))
    monkeypatch.setenv("BNKIT_DATA", str(tmp_path / "mine"))
    assert datasets.available("tiny")
    assert_is_tiny(datasets.load("tiny"))


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: content[:-1] + b"?", lambda _: b""]
)
def test_a_bad_file_is_refused_and_nothing_is_touched(
    tiny, home, server, tmp_path, monkeypatch, damage
):
    tiny(server.mirror("good", FILES))
    mine = tmp_path / "mine" / "tiny"
    put(mine)
    put(home)
    bad = mine / "test-x.gz"
    bad.write_bytes(damage(FILES["test-x.gz"]))
    found = hashlib.sha256(bad.read_bytes()).hexdigest()
    monkeypatch.setenv("BNKIT_DATA", str(tmp_path / "mine"))
    with pytest.raises(datasets.DataError, match="truncated or altered") as error:
        datasets.load("tiny")
    for part in (str(bad), found, hashlib.sha256(FILES["test-x.gz"]).hexdigest()):
        assert part in str(error.value)
    assert hashlib.sha256(bad.read_bytes()).hexdigest() == found
    assert (home / "test-x.gz").read_bytes() == FILES["test-x.gz"]
    assert server.asked == []
    bad.unlink()  # the remedy that the message names: the good copy in the cache is used now
    assert_is_tiny(datasets.load("tiny"))


def test_available_wants_every_file_whole(tiny, home):
    tiny()
    put(home, dict(islice(FILES.items(), 3)))
    assert not datasets.available("tiny")
    put(home, FILES | {"test-y.gz": FILES["test-y.gz"][:-1]})
    assert not datasets.available("tiny")
    put(home)
    assert datasets.available("tiny")


def test_the_digest_tells_data_sets_apart(tiny, home, monkeypatch):
    tiny()
    put(home)
    before = datasets.load("tiny").digest
    other = idx_file(ARRAYS[3][::-1])
    files = arrays._IDX["tiny"].files | {
        "test-y.gz": (len(other), hashlib.sha256(other).hexdigest())
    }
    monkeypatch.setitem(arrays._IDX, "tiny", replace(arrays._IDX["tiny"], files=files))
    put(home, {"test-y.gz": other})
    assert datasets.load("tiny").digest != before


def test_an_unknown_name_lists_the_known_ones():
    for ask in (datasets.load, datasets.available):
        with pytest.raises(
            datasets.DataError, match=r"'imagenet21k'; there are: digits, mnist, fashion-mnist"
        ):
            ask("imagenet21k")


# The data sets themselves: the counts of data/README.md


def test_digits_are_those_of_scikit_learn_and_always_there():
    from sklearn.datasets import load_digits

    assert datasets.names()[0] == "digits"
    assert datasets.available("digits")
    data, bunch = datasets.load("digits"), load_digits()
    assert data.train_images.shape == (1500, 8, 8)
    assert data.test_images.shape == (297, 8, 8)
    assert np.bincount(data.train_labels).tolist() == [
        145,
        149,
        135,
        161,
        144,
        158,
        151,
        156,
        152,
        149,
    ]
    assert (data.train_images.min(), data.train_images.max(), data.white) == (0, 16, 16)

    def pairs(images, labels):
        return sorted(
            (image.astype(int).tobytes(), int(label))
            for image, label in zip(images, labels, strict=True)
        )

    ours = pairs(data.train_images, data.train_labels) + pairs(data.test_images, data.test_labels)
    assert sorted(ours) == pairs(bunch.images, bunch.target)


def test_digits_need_no_import_of_scikit_learn_and_are_found_by_it_if_need_be(monkeypatch):
    code = "import sys; sys.modules['sklearn.datasets'] = None; "
    code += "from bnkit import datasets; datasets.load('digits')"
    subprocess.run([sys.executable, "-c", code], check=True)
    quick = datasets.load("digits")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    slow = datasets.load("digits")  # refused by its digest if it differed
    assert np.array_equal(quick.test_images, slow.test_images)


def test_digits_that_differ_in_one_pixel_are_refused(monkeypatch):
    rows = arrays._digits_of_scikit_learn()
    rows[100, 30] += 1
    monkeypatch.setattr(arrays, "_digits_of_scikit_learn", lambda: rows)
    with pytest.raises(datasets.DataError, match=r"not those of the book(?s:.*)requirements\.lock"):
        datasets.load("digits")


PUBLISHED = {
    "mnist": {
        "train": [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        "test": [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        "pixels": (0.1307, 0.3081),
    },
    "fashion-mnist": {"train": [6000] * 10, "test": [1000] * 10, "pixels": (0.2860, 0.3530)},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_counts_come_out(name):
    if not datasets.available(name):
        pytest.skip(
            f"the files of {name} are not here; set BNKIT_DATA, or download them: python -m "
            f"bnkit data {name}"
        )
    data = datasets.load(name)
    assert data.train_images.shape == (60_000, 28, 28)
    assert data.test_images.shape == (10_000, 28, 28)
    assert np.bincount(data.train_labels).tolist() == PUBLISHED[name]["train"]
    assert np.bincount(data.test_labels).tolist() == PUBLISHED[name]["test"]
    # share of each of the 256 grey levels
    levels = np.bincount(data.train_images.ravel()) / data.train_images.size
    grey = np.arange(256) / 255
    mean = levels @ grey
    assert (mean, np.sqrt(levels @ (grey - mean) ** 2)) == pytest.approx(
        PUBLISHED[name]["pixels"], abs=5e-5
    )


def test_the_data_cards_give_the_sizes_and_digests_that_are_verified():
    card = (paths.root() / "data" / "README.md").read_text(encoding="utf-8")
    assert datasets.load("digits").digest in card
    for name in PUBLISHED:
        for file, (size, digest) in arrays._IDX[name].files.items():
            assert f"| `{file}` | {size:,} | `{digest}` |" in card
        for part in ("train", "test"):
            counts = PUBLISHED[name][part]
            words = f"{counts[0]:,}" if len(set(counts)) == 1 else " ".join(map(str, counts))
            assert words in " ".join(card.split())


# What training does with them


sizes = st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


@given(sizes, st.integers(0, 2**32), st.integers(0, 100))
@settings(max_examples=50, deadline=None)
def test_each_epoch_is_a_permutation_and_start_skips_exactly(size, seed, start):
    n, batch_size = size
    per_epoch = n // batch_size
    taken = list(islice(datasets.batches(n, batch_size, seed), start + 2 * per_epoch + 1))
    assert {(batch.shape, batch.dtype) for batch in taken} == {((batch_size,), np.dtype(np.int64))}
    for epoch in range(len(taken) // per_epoch):
        seen = np.concatenate(taken[epoch * per_epoch : (epoch + 1) * per_epoch])
        assert len(set(seen.tolist())) == per_epoch * batch_size
        assert set(seen.tolist()) <= set(range(n))
    resumed = islice(datasets.batches(n, batch_size, seed, start), len(taken) - start)
    assert [batch.tolist() for batch in resumed] == [batch.tolist() for batch in taken[start:]]


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed, epoch):
        return next(datasets.batches(100, 100, seed, start=epoch)).tolist()

    orders = [order(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert len({tuple(each) for each in orders}) == 9
    assert order(2, 1) == orders[7]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((10, 11, 0), "batch_size=11"),
        ((10, 0, 0), "batch_size=0"),
        ((0, 1, 0), "examples, 0"),
        ((10, 2, 0, -1), "start=-1"),
    ],
)
def test_impossible_batches_are_refused_at_the_call(arguments, complaint):
    with pytest.raises(ValueError, match=complaint):
        datasets.batches(*arguments)


def test_coloured_digits_are_pictures_on_the_scale_of_photographs():
    grey, data = datasets.load("digits"), datasets.coloured(datasets.load("digits"), 32)
    assert data.train_images.shape == (1500, 32, 32, 3)
    assert data.train_images.dtype == np.uint8
    assert (data.train_images.min(), data.train_images.max(), data.white) == (0, 255, 255)
    for colour in range(3):
        corners = data.test_images[:, ::4, ::4, colour]
        np.testing.assert_allclose(corners, grey.test_images * (255 / 16), atol=1)
        np.testing.assert_array_equal(corners, data.test_images[:, 3::4, 3::4, colour])
    with pytest.raises(ValueError, match="8 x 8 pixels; give a multiple"):
        datasets.coloured(grey, 30)
