"""A checkpoint comes back as it went in, or not at all."""

import numpy as np
import pytest

from bnkit.runs import checkpoints


def test_arrays_and_facts_come_back(tmp_path):
    arrays = {"model/w": np.arange(6.0).reshape(2, 3), "model/n": np.array(3)}
    facts = {"step": 7, "curves": {"loss": {"steps": [1], "values": [0.1]}}}
    found_arrays, found_facts = checkpoints.load(
        checkpoints.save(tmp_path / "a.npz", arrays, facts)
    )
    assert found_facts == facts
    assert found_arrays.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(found_arrays[name], array)
        assert found_arrays[name].dtype == array.dtype


def test_missing_truncated_and_foreign_files_are_no_checkpoint(tmp_path):
    assert checkpoints.load(tmp_path / "none.npz") is None
    path = checkpoints.save(tmp_path / "a.npz", {"w": np.arange(1000)}, {})
    path.write_bytes(path.read_bytes()[:-100])
    assert checkpoints.load(path) is None
    (tmp_path / "b.npz").write_text("not a checkpoint")
    assert checkpoints.load(tmp_path / "b.npz") is None


def test_no_pickle(tmp_path):
    with pytest.raises(ValueError, match="Object arrays"):
        checkpoints.save(tmp_path / "a.npz", {"w": np.array([print], dtype=object)}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_run_takes_up_its_own_checkpoint_and_no_other(tmp_path):
    path, arrays = tmp_path / "run.npz", {"w": np.arange(3)}
    first = checkpoints.Checkpoint(path, "a")
    assert first.load() is None
    first.save(arrays, {"step": 7})
    again = checkpoints.Checkpoint(path, "a")
    found, facts = again.load()
    assert facts == {"step": 7}
    assert found["w"].tolist() == [0, 1, 2]
    assert again.earlier > 0
    assert checkpoints.Checkpoint(path, "b").load() is None, "of another recipe"
    checkpoints.save(path, arrays, {"recipe": "a", "progress": {}, "seconds": 1.0})
    assert checkpoints.Checkpoint(path, "a").load() is None, "in the form of an earlier version"
    checkpoints.save(path, arrays, {"recipe": "a", "facts": {}})
    assert checkpoints.Checkpoint(path, "a").load() is None, "without its time"
    np.save(tmp_path / "plain.npy", np.arange(3))
    (tmp_path / "plain.npy").rename(path)
    assert checkpoints.Checkpoint(path, "a").load() is None, "an array in the place of an archive"
