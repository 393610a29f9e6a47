"""The full network by one process and by several: the same curve, stopped and taken up again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from bnkit import paths
from bnkit.__main__ import main
from bnkit.datasets import DataError
from bnkit.runs import experiments, records
from bnkit.runs.distributed import Processes
from bnkit.runs.tasks import imagenet
from bnkit.runs.tasks.imagenet import ImagenetRecipe

# Small pictures and mini-batches, in float64, so that what differs is not rounding; every change of
# BN-x5.
TINY = dict(  # noqa: C408 - reads like the call it is for
    size=32, batch_size=6, steps=5, precision="float64", norm="batch", learning_rate=0.01, dropout=0.0, lrn=False,
    shuffle=True, population_batches=2,
)  # fmt: skip

SCRIPT = """
import os, sys
from bnkit.__main__ import main
from bnkit.runs import checkpoints, experiments
from bnkit.runs.tasks import imagenet
from bnkit.runs.tasks.imagenet import ImagenetRecipe

recipe = ImagenetRecipe(**{options!r})
experiments.EXPERIMENTS["imagenet/tiny"] = experiments.Experiment("imagenet/tiny", recipe, 0, "a test")
checkpoints.Checkpoint.EVERY = 0
imagenet.Task.PAUSE_EVERY = 1
if __name__ == "__main__":
    sys.exit(main(["run", "imagenet/tiny", "--data", {tree!r}, "--device", "cpu"]))
"""


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """Two classes of coloured noise, darker and lighter."""
    root, rng = tmp_path_factory.mktemp("tree"), np.random.default_rng(0)
    for split, count in (("train", 9), ("val", 4)):
        for number, name in enumerate(("dark", "light")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = rng.integers(100 * number, 100 * number + 156, (40, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return root


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Runs, checkpoints and decoded pictures in a folder of their own, for the processes that a
    test starts too."""
    monkeypatch.setenv("BNKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setattr(paths, "cache", lambda: tmp_path / "cache")
    (tmp_path / "sitecustomize.py").write_text(
        f"from pathlib import Path; from bnkit import paths; paths.cache = lambda: Path({str(tmp_path / 'cache')!r})\n"
    )
    return tmp_path


def start(place: Path, tree: Path, processes: int, **changes) -> subprocess.Popen:
    """The command of the README, with a tiny experiment in place of a large one."""
    script = place / "tiny.py"
    script.write_text(SCRIPT.format(options=TINY | changes, tree=str(tree)))
    environment = {**os.environ, "PYTHONPATH": f"{place}:{paths.root()}", "OMP_NUM_THREADS": "1"}
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.Popen(
        [*command, str(script)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True,
    )  # fmt: skip


def finish(place: Path, process: subprocess.Popen) -> records.Record:
    """Its record, once it has ended well."""
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    stored = next(iter((place / "cache" / "runs" / "own-data").rglob("seed-0.json")))
    content = json.loads(stored.read_text())
    stored.unlink()
    return content


@pytest.mark.skipif(
    "BNKIT_SLOW" not in os.environ, reason="trains the full network four times; set BNKIT_SLOW=1"
)
def test_two_processes_train_the_network_that_one_would_and_a_kill_costs_nothing(place, tree):
    alone = finish(place, start(place, tree, 1))

    together = start(place, tree, 2)
    checkpoints = place / "cache" / "checkpoints"
    while not list(checkpoints.rglob("*.npz")):
        assert together.poll() is None, together.stdout.read()
        time.sleep(0.01)
    workers = subprocess.run(
        ["pgrep", "-P", str(together.pid)], capture_output=True, text=True
    ).stdout.split()
    os.kill(int(workers[-1]), signal.SIGKILL)  # one of the two, for real
    together.communicate(timeout=120)
    assert together.returncode != 0, "torchrun did not notice that a process was gone"
    assert list(checkpoints.rglob("*.npz")), "the checkpoint went with the process"

    resumed = finish(place, start(place, tree, 2))
    assert resumed["manifest"]["processes"] == 2
    for name in ("loss", "test_loss", "test_accuracy"):
        assert resumed["curves"][name]["steps"] == alone["curves"][name]["steps"]
        np.testing.assert_allclose(
            resumed["curves"][name]["values"],
            alone["curves"][name]["values"],
            rtol=1e-5,
            equal_nan=False,
        )


def test_the_parts_of_all_processes_are_the_joint_mini_batch(tree, place):
    recipe = ImagenetRecipe(**TINY)
    joint = imagenet.Task(recipe, torch.device("cpu"), tree)
    x, labels = next(joint.batches(3))
    for size in (2, 3):
        for rank in range(size):
            part = object.__new__(imagenet.Task)
            part.__dict__ |= joint.__dict__ | {"processes": Processes(rank, size)}
            mine, my_labels = next(part.batches(3))
            assert torch.equal(mine, x[rank::size])
            assert torch.equal(my_labels, labels[rank::size])


def test_a_mini_batch_that_cannot_be_shared_is_refused(tree, place):
    with pytest.raises(DataError, match="6 pictures cannot be shared evenly by 4 processes"):
        imagenet.Task(ImagenetRecipe(**TINY), torch.device("cpu"), tree, Processes(0, 4))


def test_without_data_the_error_says_what_to_give():
    with pytest.raises(DataError, match="Give --data"):
        experiments.train(ImagenetRecipe(**TINY), device="cpu")


def test_an_unknown_precision_is_refused(tree, place):
    with pytest.raises(ValueError, match="'float8' is not one of float64, float32, bfloat16"):
        imagenet.Task(ImagenetRecipe(**TINY | {"precision": "float8"}), torch.device("cpu"), tree)


def test_bfloat16_multiplies_in_bfloat16_and_keeps_float32(tree, place):
    task = imagenet.Task(
        ImagenetRecipe(**TINY | {"precision": "bfloat16"}), torch.device("cpu"), tree
    )
    x, labels = next(task.batches())
    outputs = task.trained(x)
    assert (x.dtype, outputs.dtype) == (torch.float32, torch.bfloat16)
    task.loss(outputs, labels).backward()
    assert {parameter.grad.dtype for parameter in task.model.parameters()} == {torch.float32}


def test_the_side_tower_has_a_say_of_two_fifths(tree, place):
    task = imagenet.Task(ImagenetRecipe(**TINY), torch.device("cpu"), tree)
    outputs, labels = (
        torch.randn(2, 6, 2, generator=torch.Generator().manual_seed(0)),
        torch.tensor([0, 1, 0, 1, 1, 0]),
    )
    each = [torch.nn.functional.cross_entropy(one, labels) for one in outputs]
    torch.testing.assert_close(task.loss(tuple(outputs), labels), each[0] + 0.4 * each[1])


def test_data_that_would_not_be_used_are_refused(capsys):
    assert main(["run", "inception/bn-x5", "--data", "somewhere"]) == 1
    said = "inception/bn-x5 trains on imagenette; data of your own are for imagenet/... only"
    assert said in capsys.readouterr().err


def test_the_learning_rates_are_the_paper_s():
    rates = {
        name: experiments.experiment(f"imagenet/{name}").recipe.learning_rate
        for name in ("bn-x5", "bn-x30")
    }
    assert rates == pytest.approx({"bn-x5": 0.0075, "bn-x30": 0.045})
    assert experiments.experiment("imagenet/inception").recipe.learning_rate == 0.0015
