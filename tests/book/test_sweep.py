"""Sweeps and comparisons: what cannot work is refused before anything starts, what was done is not
done again, and no process outlives the one that asked for it.
"""

import csv
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from pathlib import Path

import psutil
import pytest
from clusters import need_dask, wait_for, workers
from tiny_books import ROOT, code, good, make_book, markdown, notebook, outside, press

from bnkit import engines
from bnkit.book import compare, points, sheet, sweep, words
from bnkit.book.layout import Book, PressError
from bnkit.book.points import Outcome, Task
from bnkit.page import reruns
from bnkit.page.quantities import as_curve, as_result
from bnkit.page.reruns import Rerun

CHECK = """\
import os
import time
from pathlib import Path

from bnkit import page
from bnkit.page import parameters


def read_list(value):
    if type(value) is not list:
        raise ValueError(f"{value!r} is no list")
    return value


p = parameters.check(
    globals(), chapter="01-swept", rate=parameters.number(0, 9), seeds=parameters.integer(1, 5),
    sizes=parameters.Rule("list", "a list of numbers", read_list),
)
p"""
# Leaves a line for each time it ran, with its own process and its parent's; 2 waits to be let go.
RUN = """\
trace = Path(os.environ["TRACE"])
with (trace / f"{p.rate:g}").open("a") as file:
    print(os.getpid(), os.getppid(), file=file)
while p.rate == 2 and not (trace / "go").exists():
    time.sleep(0.1)
1 / (p.rate - 9)"""
RESULTS = """\
page.result("twice", [2 * p.rate + seed for seed in range(p.seeds)], "%")
page.result("sizes", len(p.sizes))
page.curve("line", [1, 2], [p.rate, 2 * p.rate])
page.results()"""


def swept() -> dict:
    """A chapter whose results follow from its parameters."""
    declared = "rate: float = 1.0  # a rate\nseeds: int = 2  # seeds\nsizes: list = [1]  # sizes"
    return notebook(
        markdown("title", "# A chapter\n\nA lead."),
        code("parameters", declared, tags=["parameters"]),
        code("check", CHECK),
        code("run", RUN),
        code("results", RESULTS),
    )


@pytest.fixture
def book(tmp_path) -> Book:
    return make_book(
        tmp_path / "book", {"01-swept": swept(), "02-good": good()}, index="# A book\n"
    )


# --- grids ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "axes"),
    [
        ("rate=0.1,0.5,2 seeds=3", {"rate": [0.1, 0.5, 2.0], "seeds": [3]}),
        ("rate=1", {"rate": [1.0]}),
        ("sizes=[1,2],[3] seeds=1,2", {"sizes": [[1, 2], [3]], "seeds": [1, 2]}),
        ("sizes=[1, 2]", {"sizes": [[1, 2]]}),
        ("name='a,b',c", {"name": ["a,b", "c"]}),
        ("rate=fast", {"rate": ["fast"]}),
    ],
)
def test_a_grid_is_read_by_the_types_that_the_chapter_declares(book, given, axes):
    assert sweep.read_grid(book.file("chapters/01-swept"), given) == axes


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("", "a sweep needs parameters"),
        ("rate", "'rate' is no parameter; write NAME=VALUE"),
        ("=1", "'=1' is no parameter"),
        ("rate=", "rate has no value"),
        ("rate=1,1", "rate has the value 1.0 twice"),
        ("rate=1,,2", "'1,,2' has a comma too many"),
        ("sizes=[1,2],", "'[1,2],' has a comma too many"),
        ("rate=1 rate=2", "rate is given twice"),
        ("sizes=[1,2", "'[1,2' is not closed"),
        ("rate='1", "is not closed"),
        ("rate=1,200,3", "1 of 3 points are refused, and nothing was started.\nrate=200.0:"),
        ("rate=1,200,300", "and 1 others, among them:\n  rate=300.0"),
        ("rate=x", "rate: 'x' is text, not a number"),
        ("rat=1", "rat: unknown; did you mean rate?"),
        ("sizes=3", "sizes: 3 is no list"),
        ("rate=" + ",".join(map(str, range(10_001))), "10,001 points; at most 10,000"),
    ],
)
def test_a_grid_that_cannot_work_is_refused_before_anything_starts(book, given, said):
    with pytest.raises(PressError, match=re.escape(said)):
        sweep.sweep(book, "01-swept", given)
    assert not (book.build / "sweeps").exists()


def test_a_chapter_without_results_is_no_use_in_a_sweep(book):
    with pytest.raises(PressError, match="02-good hands over no results"):
        sweep.sweep(book, "02-good", "seed=1,2")


def test_grids_that_differ_lie_in_other_folders():
    axes = [
        {"a": [1, 2]}, {"a": [1], "b": [2]}, {"a": ["1_2"]}, {"a": [12]}, {"a": ["1", "2_3"]},
        {"a": ["1_2", "3"]}, {"a": [[1, 2], [3]]}, {"a": [[1], [2, 3]]},
    ]  # fmt: skip
    names = {sweep.folder_name("chapters/01-a", each) for each in axes}
    assert len(names) == len(axes)
    assert sweep.folder_name("x", {"rate": [0.1, 0.5], "n": [3]}) == "x--rate-0.1_0.5-n-3"
    assert all(re.fullmatch(r"[\w.-]{1,120}", name) for name in names)


def test_what_stands_in_quotes_or_brackets_is_one_word():
    assert words.split("a 'b c' [d, e] (f g)", str.isspace) == ["a", "'b c'", "[d, e]", "(f g)"]
    assert words.read_value("[1, 2]", "list") == [1, 2]
    assert words.read_value("(1, 2)", "tuple[int, int]") == (1, 2)
    assert words.read_value("[1, x]", "list") == "[1, x]", "the chapter's check refuses text"


# --- points, without kernels ----------------------------------------------------------------------


class AtOnce(Executor):
    """An engine that does all in this process, and counts."""

    def __init__(self):
        self.tasks: list[Task] = []

    def submit(self, work, task):
        self.tasks.append(task)
        future: Future = Future()
        try:
            future.set_result(work(task))
        except Exception as error:
            future.set_exception(error)
        return future


def pretend(task: Task) -> Outcome:
    """What a worker gives back, without a kernel."""
    rate = task.values["rate"]
    if rate == 9:
        return Outcome("cell 'run':\n  | 1 / (p.rate - 9)\n  ZeroDivisionError", "as far as it ran")
    if rate == 8:
        raise RuntimeError("the worker is gone")
    defaults = {"rate": 1.0, "seeds": 2, "sizes": [1]}
    found = {"twice": as_result("twice", [2 * rate, 2 * rate + 1], "%")}
    run = Rerun("01-swept", defaults | task.values, ("rate",), found, (), {}, 1.0, "", task.source)
    return Outcome(None, "{}", run.as_text(), (("live/run-a/seed-0.json", "a record"),))


@pytest.fixture
def engine(monkeypatch) -> AtOnce:
    monkeypatch.setattr(points, "run", pretend)
    monkeypatch.setattr(sheet, "make", lambda book, folder, *_: (folder, folder / "page"))
    return AtOnce()


def rates(engine: AtOnce) -> list[float]:
    return [task.values["rate"] for task in engine.tasks]


def test_points_that_are_done_are_not_done_again_and_failed_ones_are(book, engine):
    done = sweep.sweep(book, "01-swept", "rate=1,9,3", engine)
    assert rates(engine) == [1, 9, 3]
    assert list(done.failed) == ["rate-9.0"]
    assert "ZeroDivisionError" in done.failed["rate-9.0"]
    assert str(done.folder / "failed" / "rate-9.0.ipynb") in done.failed["rate-9.0"]
    kept = done.folder / "points" / "rate-1.0"
    assert (kept / "runs" / "live" / "run-a" / "seed-0.json").read_text() == "a record"
    assert [path.name for path in (done.folder / "unfinished").iterdir()] == ["rate-9.0"]
    sweep.sweep(book, "01-swept", "rate=1,9,3", engine)
    assert rates(engine) == [1, 9, 3, 9]


def test_nothing_unfinished_lies_beside_a_sweep_that_is_through(book, engine):
    done = sweep.sweep(book, "01-swept", "rate=1,3", engine)
    assert not (done.folder / "unfinished").exists()


def test_points_of_another_state_of_the_chapter_are_run_again(book, engine):
    sweep.sweep(book, "01-swept", "rate=1,3", engine)
    path = book.file("chapters/01-swept")
    path.write_text(path.read_text().replace("A lead.", "Another lead."))
    sweep.sweep(book, "01-swept", "rate=1,3", engine)
    assert rates(engine) == [1, 3, 1, 3]


def test_a_damaged_point_is_run_again(book, engine):
    done = sweep.sweep(book, "01-swept", "rate=1,3", engine)
    (done.folder / "points" / "rate-3.0" / "results.json").write_text("{")
    sweep.sweep(book, "01-swept", "rate=1,3", engine)
    assert rates(engine) == [1, 3, 3]


def test_what_an_engine_loses_is_a_point_that_failed(book, engine):
    done = sweep.sweep(book, "01-swept", "rate=8,1", engine)
    assert done.failed == {"rate-8.0": "RuntimeError: the worker is gone"}
    with (done.folder / "table.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["rate"], row["failed"], row["twice"]) for row in rows] == [
        ("8.0", "1", ""),
        ("1.0", "0", "2.5"),
    ]
    assert rows[1]["twice_spread"] == str(0.5**0.5)
    assert rows[1]["twice_seeds"] == "2"


def test_a_result_called_like_a_parameter_has_a_column_of_its_own(tmp_path):
    run = Rerun("a", {"rate": 1}, (), {"rate": as_result("rate", 7)}, ())
    point = sweep.Point("rate-1", {"rate": 1}, None)
    sweep.write_table(tmp_path / "t.csv", {"rate": [1]}, [point], {"rate-1": run})
    head, row = (tmp_path / "t.csv").read_text().splitlines()
    assert head == "point,rate,failed,rate_found,rate_found_spread,rate_found_seeds"
    assert row == "rate-1,1,0,7.0,0.0,1"


def test_where_no_point_succeeds_there_is_no_page(book, engine):
    done = sweep.sweep(book, "01-swept", "rate=9", engine)
    assert done.page is None
    assert list(done.failed) == ["rate-9.0"]


def test_a_worker_of_another_state_says_so(book, monkeypatch):
    monkeypatch.setenv("BNKIT_ROOT", str(book.root))
    outcome = points.run(Task("chapters/01-swept", {}, "another digest", "nowhere"))
    assert "of another state than the one that asks" in outcome.problem


def test_runs_are_called_by_what_tells_them_apart_where_that_is_short():
    def run(**values) -> Rerun:
        return Rerun("a", {"rate": 1, "source": "recorded", "steps": 0} | values, (), {}, ())

    long = {"rate": 0.123456789, "source": "live", "steps": 50_000}
    named = compare.labels({compare.BOOK: run(), "x": run(rate=2)})
    assert named == ["the book", "rate=2"]
    assert compare.labels({compare.BOOK: run(), "x": run(**long)}) == ["the book", "the re-run"]
    assert compare.labels({"x": run(**long), "y": run()}) == [
        "run 1",
        "rate=1, source=recorded, steps=0",
    ]
    assert compare.labels({"p/x": run(), "p/y": run()}) == ["x", "y"]


# --- in earnest -----------------------------------------------------------------------------------


def lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def is_running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def trace(tmp_path) -> Path:
    folder = tmp_path / "trace"
    folder.mkdir()
    return folder


def start(book: Book, *arguments: str, **environment: str) -> subprocess.Popen:
    command = [sys.executable, *arguments]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    return subprocess.Popen(command, cwd=book.root, env=outside(book) | environment, **quiet)


def test_a_sweep_that_was_killed_leaves_no_process_and_goes_on(book, trace):
    given = ("sweep", "01-swept", "rate=1,2,9 seeds=2")
    litter = trace.with_name("temporary")
    litter.mkdir()
    process = start(book, "-m", "bnkit.book", *given, TRACE=str(trace), TMPDIR=str(litter))
    folder = book.build / "sweeps" / "01-swept--rate-1.0_2.0_9.0-seeds-2"
    first = folder / "points" / "rate-1.0-seeds-2" / "results.json"
    wait_for(lambda: first.exists() and lines(trace / "2"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    pids = [int(pid) for pid in lines(trace / "2")[0].split()]
    wait_for(lambda: not any(map(is_running, pids)))
    assert not list(litter.iterdir()), "but its workshop, which the next one sweeps up"

    (trace / "go").touch()
    done = press(book, *given, TRACE=str(trace))
    assert done.returncode == 1
    assert "rate-9.0-seeds-2 failed in cell 'run'" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert len(lines(trace / "1")) == 1, "it was done"
    assert len(lines(trace / "2")) == 2, "it goes on"
    with (folder / "table.csv").open() as file:
        table = [(row["rate"], row["twice"], row["failed"]) for row in csv.DictReader(file)]
    assert table == [("1.0", "2.5", "0"), ("2.0", "4.5", "0"), ("9.0", "", "1")]
    page = (folder / "html" / "chapters" / "sweep.html").read_text()
    assert "4.50±0.71" in page.replace("\N{NO-BREAK SPACE}", "")
    assert "1 of them failed" in page
    assert "fig-along" in page

    # what a sweep has made can be compared
    places = [f"{folder}/points/rate-{rate}-seeds-2" for rate in ("1.0", "2.0")]
    done = press(book, "compare", *places)
    assert done.returncode == 0, done.stderr
    page = Path(re.search(r"page: +(.+)", done.stdout)[1]).read_text(encoding="utf-8")
    assert "2.50±0.71" in page.replace("\N{NO-BREAK SPACE}", "")
    assert "rate=2.0" in page
    assert "fig-curves" in page


WITHOUT_A_PAGE = """\
import sys
from bnkit.book import __main__, sheet
sheet.make = lambda book, folder, *_: (folder, folder)  # another test looks at pages
sys.exit(__main__.main(sys.argv[1:]))"""


@pytest.fixture
def cluster(book, trace) -> Iterator[tuple[str, list[subprocess.Popen]]]:
    """The address of a scheduler, and its two workers."""
    with workers(book.root, outside(book) | {"TRACE": str(trace)}) as started:
        yield started


def test_a_scheduler_gives_the_points_of_a_lost_worker_to_another(book, trace, cluster):
    address, (lost, _) = cluster
    given = ("sweep", "01-swept", "rate=2 seeds=1,2,3", "--scheduler", address)
    process = start(book, "-c", WITHOUT_A_PAGE, *given)
    wait_for(lambda: len(lines(trace / "2")) == 2)  # both workers are busy
    lost.kill()
    (trace / "go").touch()
    assert process.wait(300) == 0
    folder = book.build / "sweeps" / "01-swept--rate-2.0-seeds-1_2_3"
    found = [reruns.load(folder / "points" / f"rate-2.0-seeds-{n}") for n in (1, 2, 3)]
    assert [run.results["twice"].values for run in found] == [(4,), (4, 5), (4, 5, 6)]
    assert len(lines(trace / "2")) == 4, "the lost one was run again"


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "1", "nonsense", "http://a:1", "a:b"])
@pytest.mark.filterwarnings("error::pytest.PytestUnraisableExceptionWarning")
def test_a_scheduler_that_is_not_there_is_one_sentence(monkeypatch, address):
    need_dask()
    monkeypatch.setattr(engines, "SECONDS", 0.2)
    with (
        pytest.raises(engines.EngineError, match="no scheduler answers at"),
        engines.cluster(address),
    ):
        pass


def test_without_dask_a_scheduler_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(engines.EngineError, match="pip install"), engines.cluster("tcp://a:1"):
        pass


LATE = """\
import sys, time
from pathlib import Path
from bnkit import engines

def late(folder):
    Path(folder, "here").touch()
    while not Path(folder, "go").exists():
        time.sleep(0.05)
    engines.end_with_parent()
    time.sleep(600)
"""
STARTERS = {
    "multiprocessing": """\
from multiprocessing import get_context
from late import late
if __name__ == "__main__":
    child = get_context("spawn").Process(target=late, args=(sys.argv[1],))
    child.start()
    print(child.pid, flush=True)
    child.join()""",
    "subprocess": """\
import os, subprocess
from bnkit import engines
command = [sys.executable, "-c", "import sys; from late import late; late(sys.argv[1])", sys.argv[1]]
child = subprocess.Popen(command, env={**os.environ, engines.PARENT: str(os.getpid())})
print(child.pid, flush=True)
child.wait()""",
}


@pytest.mark.parametrize("name", STARTERS)
def test_a_process_whose_starter_is_gone_before_it_looks_ends_too(tmp_path, name):
    """As a worker that was still importing torch when the press was killed."""
    (tmp_path / "late.py").write_text(LATE)
    (tmp_path / "start.py").write_text(f"import sys\n{STARTERS[name]}")
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    command = [sys.executable, str(tmp_path / "start.py"), str(tmp_path)]
    about = {"env": os.environ | {"PYTHONPATH": path}, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **about) as starter:
        child = int(starter.stdout.readline())
        wait_for((tmp_path / "here").exists)
        starter.kill()
        starter.wait()
        (tmp_path / "go").touch()
        wait_for(lambda: not is_running(child))


# --- comparisons ----------------------------------------------------------------------------------


def saved(folder: Path, chapter: str = "01-swept", rate: float = 1.0, **more) -> str:
    found = {"twice": as_result("twice", [2 * rate, 3 * rate])}
    curve = as_curve("line", [1, 2], [1, 2])
    run = Rerun(chapter, {"rate": rate}, ("rate",), found, (curve,), **more)
    run.save(folder)
    return str(folder)


def test_what_cannot_be_compared_is_one_sentence(book, tmp_path):
    one, two = saved(tmp_path / "one"), saved(tmp_path / "two", "02-good")
    empty = tmp_path / "empty"
    Rerun("01-swept", {}, (), {}, ()).save(empty)
    (tmp_path / "folder").mkdir()
    for places, said in (
        ([one], "a comparison takes 2 to 5 runs; 1 was given"),
        ([one, one], "a run cannot be compared with itself"),
        ([one, f"{one}/../one"], "a run cannot be compared with itself"),
        (["book", "book"], "a run cannot be compared with itself"),
        (
            [one, two],
            f"only runs of one chapter can be compared; {one} is of 01-swept, {two} is of",
        ),
        ([one, str(tmp_path / "folder")], "is no folder of a re-run"),
        ([one, str(tmp_path / "nowhere")], "does not exist"),
        ([one, str(empty)], "has no results"),
        ([saved(tmp_path / "odd", "99-none"), "book"], "there is no chapter '99-none'"),
    ):
        with pytest.raises(PressError) as refusal:
            compare.compare(book, places)
        assert said in str(refusal.value)
        assert "\n" not in str(refusal.value)


def test_runs_are_called_by_what_tells_them_apart():
    def run(**parameters):
        return Rerun("a", parameters, (), {}, ())

    book = run(rate=0.1, steps=10)
    one, two = run(rate=0.5, steps=20), run(rate=2.0, steps=20)
    assert compare.labels({"book": book, "x": one}) == ["the book", "rate=0.5, steps=20"]
    assert compare.labels({"book": book, "x": one, "y": two}) == [
        "the book",
        "rate=0.5",
        "rate=2.0",
    ]
    assert compare.labels({"/a/x": one, "/a/y": one}) == ["x", "y"]
    assert compare.labels({"/a/x": one, "/b/x": one}) == ["x", "x (2)"]
