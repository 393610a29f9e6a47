"""Files are found from anywhere, and written whole or not at all."""

import os
import signal
import subprocess
import sys
import time

import pytest

from bnkit import paths


def test_root_does_not_depend_on_the_working_directory(tmp_path, monkeypatch):
    before = paths.root()
    monkeypatch.chdir(tmp_path)
    assert paths.root() == before
    assert (paths.root() / "bnkit" / "paths.py").is_file()


def test_a_folder_that_is_no_checkout_is_refused_with_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("BNKIT_ROOT", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="Set BNKIT_ROOT"):
        paths.root()


def test_a_failed_write_keeps_the_old_file_and_leaves_no_litter(tmp_path, monkeypatch):
    target = paths.write_atomically(tmp_path / "a.json", "old")

    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full_disk)
    with pytest.raises(OSError, match="No space left"):
        paths.write_atomically(target, "new")
    assert target.read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.json"]


def test_a_killed_writer_leaves_the_file_whole(tmp_path):
    """A process that rewrites a file for ever is killed at an arbitrary moment, five times over."""
    target = tmp_path / "a.bin"
    code = (
        "import sys; from bnkit import paths\n"
        "for i in range(10**9): paths.write_atomically(sys.argv[1], bytes([i % 256]) * 1_000_000)"
    )
    for wait in (0.05, 0.1, 0.15, 0.2, 0.25):
        process = subprocess.Popen([sys.executable, "-c", code, str(target)])
        while not target.exists():
            time.sleep(0.01)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL)
        process.wait()
        content = target.read_bytes()
        assert len(content) == 1_000_000
        assert len(set(content)) == 1


def test_what_is_written_can_be_read_by_others(tmp_path):
    path = paths.write_atomically(tmp_path / "a.json", "{}")
    assert path.stat().st_mode & 0o777 == 0o644


def test_the_folder_of_runs_is_one_place_wherever_it_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("BNKIT_RUNS", "~/runs")
    assert paths.runs() == tmp_path / "runs"
