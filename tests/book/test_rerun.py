"""A re-run lies in its folder whole or not at all, and is never replaced by one of other parameters."""

import json
from contextlib import contextmanager
from pathlib import Path

import pytest
from tiny_books import code, make_book, markdown, notebook

from bnkit.book import rerun, site
from bnkit.book.layout import Book, PressError
from bnkit.page import reruns
from bnkit.page.quantities import RESULT, as_result

CHECK = """\
from bnkit.page import parameters

p = parameters.check(globals(), chapter="01-a", rate=parameters.number(0, 9))
p"""


@pytest.fixture
def book(tmp_path) -> Book:
    chapter = notebook(
        markdown("title", "# A chapter\n\nA lead."),
        code("parameters", "rate: float = 1.0  # a rate", tags=["parameters"]),
        code("check", CHECK),
        code("results", 'page.result("twice", 2 * p.rate)'),
    )
    return make_book(tmp_path / "book", {"01-a": chapter}, index="# A book\n")


@pytest.fixture
def kernel(monkeypatch):
    """What a kernel would do, and the folder in which it would keep its runs."""
    kept: list[Path] = []

    class Shop:
        problem = None

        def run(self, clean, executed, given, seconds, live, environment):
            runs = Path(environment[rerun.LIVE])
            kept.append(runs)
            runs.mkdir(parents=True, exist_ok=True)
            (runs / f"{len(kept)}.json").write_text("{}")
            content = json.loads(clean.read_text())
            data = {RESULT: as_result("twice", 2 * given.get("rate", 1.0)).as_dict()}
            shown = {"output_type": "display_data", "data": data, "metadata": {}}
            content["cells"][-1]["outputs"] = [shown]
            executed.write_text(json.dumps(content))
            return self.problem

    shop = Shop()
    shop.kept = kept

    @contextmanager
    def opened(book):
        yield shop

    def build(source, work, strict):
        (work / "chapters").mkdir(parents=True)
        (work / "chapters" / "01-a.html").write_text("a page")
        return work

    monkeypatch.setattr(rerun, "workshop", opened)
    monkeypatch.setattr(site, "build", build)
    return shop


def files(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def test_a_rerun_is_notebook_page_results_and_runs(book, kernel):
    executed, page = rerun.rerun(book, "01-a", "rate=3")
    folder = book.build / "reruns" / "01-a--rate-3.0"
    assert (executed, page) == (folder / "01-a.ipynb", folder / "html" / "chapters" / "01-a.html")
    assert files(folder) == ["01-a.ipynb", "html/chapters/01-a.html", "results.json", "runs/1.json"]
    run = reruns.load(folder)
    assert (run.parameters, run.changed) == ({"rate": 3.0}, ("rate",))
    assert run.results["twice"].mean == 6.0
    assert {"numpy", "platform"} <= run.versions.keys()
    assert [path.name for path in folder.parent.iterdir() if path.is_dir()] == [folder.name]


def test_what_failed_leaves_the_last_good_one_and_the_runs_that_it_trained(book, kernel):
    executed, _ = rerun.rerun(book, "01-a", "rate=3")
    before = executed.read_bytes()
    kernel.problem = "cell 'results': it failed"
    with pytest.raises(
        PressError, match=r"it failed\n  as far as it ran: .*reruns/01-a--rate-3\.0"
    ):
        rerun.rerun(book, "01-a", "rate=3")
    assert executed.read_bytes() == before
    assert (book.failed / "reruns" / "01-a--rate-3.0.ipynb").is_file()
    kernel.problem = None
    rerun.rerun(book, "01-a", "rate=3")
    assert files(executed.parent / "runs") == ["2.json", "3.json"], "it went on from there"


def test_runs_of_another_state_of_the_chapter_are_not_gone_on_from(book, kernel):
    kernel.problem = "it failed"
    with pytest.raises(PressError):
        rerun.rerun(book, "01-a", "")
    path = book.file("chapters/01-a")
    path.write_text(path.read_text().replace("A lead.", "Another lead."))
    kernel.problem = None
    executed, _ = rerun.rerun(book, "01-a", "")
    assert files(executed.parent / "runs") == ["2.json"]


def test_other_defaults_do_not_replace_what_was_run_with_the_earlier_ones(book, kernel):
    first, _ = rerun.rerun(book, "01-a", "")
    path = book.file("chapters/01-a")
    path.write_text(path.read_text().replace("rate: float = 1.0", "rate: float = 2.0"))
    second, _ = rerun.rerun(book, "01-a", "")
    assert first.parent.name == "01-a--defaults"
    assert second.parent.name.startswith("01-a--defaults-")
    assert reruns.load(first.parent).parameters == {"rate": 1.0}
    assert reruns.load(second.parent).parameters == {"rate": 2.0}


def test_parameters_that_read_alike_lie_in_other_folders():
    names = {
        rerun.folder_name("chapters/01-a", values)
        for values in ({"a": "b-c"}, {"a": "b", "c": "d"}, {"a": "b-c-d"}, {"a-b": "c"})
    }
    assert len(names) == 4


def test_a_result_that_stands_for_two_things_is_no_result(book, kernel, monkeypatch):
    monkeypatch.setattr(rerun, "found_in", lambda cells: (_ for _ in ()).throw(ValueError("twice")))
    with pytest.raises(PressError, match=r"01-a\.ipynb: twice"):
        rerun.rerun(book, "01-a", "rate=3")
