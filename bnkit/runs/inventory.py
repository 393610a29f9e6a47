"""What the book's folder of records holds: which runs are there, whether they are the book's, and
whether today's arithmetic made them.

A record that an earlier arithmetic made is no fault: it is listed, and CHANGELOG's note on records
says what has changed since. ``problems`` is what ``make check`` asks.
"""

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from bnkit import paths
from bnkit.runs import experiments, records
from bnkit.runs.experiments import Experiment
from bnkit.runs.records import RecordError


class Holding(NamedTuple):
    """The records of one experiment."""

    experiment: Experiment
    recorded: int
    earlier: int
    """How many of them were made by another arithmetic than today's, or do not say by which."""
    problems: tuple[str, ...]
    """A sentence for each that is missing, damaged, or of another recipe."""

    @property
    def family(self) -> str:
        """The module of ``bnkit.runs.tasks`` that trains it."""
        module = experiments.task_of(self.experiment.recipe).__module__
        return module.rpartition(".")[2]

    @property
    def arithmetic(self) -> str:
        """The digest of today's."""
        recipe = self.experiment.recipe
        return experiments.arithmetic_of(recipe, experiments.maker_of(recipe))["digest"]


def holdings() -> Iterator[Holding]:
    """Of every experiment what is recorded, in the order in which ``list`` shows them."""
    for one in experiments.EXPERIMENTS.values():
        runs, problems = [], []
        for seed in range(one.seeds):
            try:
                runs.append(experiments.load(one.name, seed))
            except RecordError as error:
                problems.append(str(error))
        earlier = sum(not experiments.is_of_today(run) for run in runs)
        yield Holding(one, len(runs), earlier, tuple(problems))


def problems() -> list[str]:
    """What is wrong with the book's records, a sentence each; empty where all is well."""
    there = list(holdings())
    runs = paths.runs()
    named = (path.relative_to(runs) for path in records.strangers())
    found = [f"{path} is no record: its name is not as records have it" for path in named]
    for *name, seed in records.index():
        run = "/".join(name), seed
        if experiments.registered(*run) is None:
            other = "other runs belong into the cache, where no page reads them"
            found.append(f"{run[0]}/seed-{seed}.json is no run of the book; {other}")
    found += [problem for holding in there for problem in holding.problems]
    for name in experiments.ENSEMBLES:
        try:
            experiments.load(name, 0)
        except RecordError as error:
            found.append(str(error))
    return found + unnoted(there, (paths.root() / "CHANGELOG.md").read_text(encoding="utf-8"))


def unnoted(there: list[Holding], note: str) -> list[str]:
    """A sentence for each family whose arithmetic has changed, and `note` does not say so."""
    earlier, total = Counter(), Counter()
    for holding in there:
        key = holding.family, holding.arithmetic
        total[key] += holding.recorded
        earlier[key] += holding.earlier
    return [
        f"the arithmetic of {family} is {digest} today, and {earlier[family, digest]} of "
        f"{total[family, digest]} records were made by an earlier one. Make them anew, or say in "
        f"CHANGELOG.md's note on records what has changed, and put `{family} {digest}` there"
        for family, digest in total
        if earlier[family, digest] and f"`{family} {digest}`" not in note
    ]
