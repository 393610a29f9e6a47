"""Python for the reader's browser: found, verified, refused when altered, downloaded when asked."""

import functools
import hashlib
import http.server
import json
import threading

import pytest

from bnkit import __main__ as command
from bnkit import paths
from bnkit.datasets import DataError, runtime

WHEELS = {"numpy": b"numbers", "matplotlib": b"pictures", "six": b"6"}
NEEDS = {"numpy": [], "matplotlib": ["numpy", "six"], "six": []}


def digest(content):
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A runtime of small files, by name, and a checkout that has none of them."""
    (tmp_path / "chapters").mkdir()
    monkeypatch.setenv("BNKIT_ROOT", str(tmp_path))
    monkeypatch.setenv("BNKIT_DATA", str(tmp_path / "mine"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    packages = {
        name: {"file_name": f"{name}.whl", "sha256": digest(WHEELS[name]), "depends": needs}
        for name, needs in NEEDS.items()
    }
    contents = {name: name.encode() for name in runtime.CORE}
    contents[runtime.LOCK] = json.dumps({"packages": packages}).encode()
    core = {name: (len(content), digest(content)) for name, content in contents.items()}
    monkeypatch.setattr(runtime, "CORE", core)
    monkeypatch.setattr(runtime, "MIRRORS", ("http://127.0.0.1:9/",))  # nobody answers
    return contents | {f"{name}.whl": content for name, content in WHEELS.items()}


def put(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("place", ["mine/pyodide", "data/cache/pyodide"])
def test_it_is_found_and_every_package_comes_with_what_it_needs(files, tmp_path, place):
    assert runtime.found() is None
    put(tmp_path / place, files)
    python = runtime.found()
    assert python.files == files
    assert python.packages["numpy"] == ["numpy.whl"]
    assert python.packages["matplotlib"] == ["matplotlib.whl", "numpy.whl", "six.whl"]


@pytest.mark.parametrize("name", ["pyodide.asm.wasm", "pyodide-lock.json", "six.whl"])
def test_an_altered_file_is_refused_by_name(files, tmp_path, name):
    altered = files[name][:-1] + b"?"
    put(tmp_path / "mine" / "pyodide", files | {name: altered})
    with pytest.raises(DataError, match=r"altered") as error:
        runtime.found()
    assert name in str(error.value)
    assert (tmp_path / "mine" / "pyodide" / name).read_bytes() == altered


@pytest.mark.parametrize("name", ["python_stdlib.zip", "numpy.whl"])
def test_one_that_is_here_in_part_is_an_error_that_names_what_is_missing(files, tmp_path, name):
    put(tmp_path / "mine" / "pyodide", {k: v for k, v in files.items() if k != name})
    with pytest.raises(DataError, match=rf"{name} missing.*python -m bnkit data pyodide"):
        runtime.found()


def test_without_file_and_network_the_error_names_three_ways(files, capsys):
    assert command.main(["data", "pyodide"]) == 1
    told = capsys.readouterr().err
    for word in ("1. connect", "2. put", "3. build the book without it", "BNKIT_DATA"):
        assert word in told


def test_it_is_downloaded_goes_on_where_it_stopped_and_is_verified(
    files, tmp_path, monkeypatch, capsys
):
    put(tmp_path / "release", files)
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_request(self, *_):
            asked.append(self.path.strip("/"))

    serve = functools.partial(Handler, directory=tmp_path / "release")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), serve) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(runtime, "MIRRORS", (address,))
        put(paths.cache() / "pyodide", {"pyodide.js": files["pyodide.js"]})
        assert command.main(["data", "pyodide"]) == 0
        server.shutdown()
    assert sorted(asked) == sorted(set(files) - {"pyodide.js"})
    assert "8 files" in capsys.readouterr().out
    assert runtime.found().files == files


def test_the_book_has_a_card_of_it():
    card = (paths.root() / "data" / "README.md").read_text()
    for name, (size, sha256) in runtime.CORE.items():
        assert f"| `{name}` | {size:,} | `{sha256}` |" in card
