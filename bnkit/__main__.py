"""``python -m bnkit``: list the experiments, run and verify them, fetch data, measure speed,
examine other layers.
"""

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

INSTALL = "make setup installs all of it, pip install '.[torch,data]' what runs need"

try:
    from tqdm import tqdm

    from bnkit import datasets, engines
    from bnkit.conformance import __main__ as conformance
    from bnkit.datasets import pictures, runtime
    from bnkit.engines import EngineError
    from bnkit.runs import DeviceError
    from bnkit.runs.records import RecordError
    from bnkit.runs.verification import Verdict
except ModuleNotFoundError as missing:  # of pip install ., which brings NumPy alone
    sys.exit(f"error: python -m bnkit needs {missing.name}, which is not here; {INSTALL}")
except KeyboardInterrupt:  # torch alone takes seconds to load
    print("stopped", file=sys.stderr)
    sys.exit(130)

MOST = 10  # digits of a number of steps, of which there are at most a thousand million
_SIZE = 64  # pixels; the size at which `data` decodes pictures, so that runs find them ready


STORED = """\
A run of the book, by a seed that `list` counts and with the steps and data of its recipe, is stored
in data/runs, or in $BNKIT_RUNS where that is set; any other in data/cache/runs, where no page reads
it."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bnkit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(
        name: str, do: Callable, purpose: str, more: str = ""
    ) -> Callable[..., argparse.Action]:
        about = f"{purpose[0].upper()}{purpose[1:]}. {more}"
        made = commands.add_parser(name, help=purpose, description=about)
        made.set_defaults(do=do)
        return made.add_argument

    command("list", _list, "the experiments of the book, and which of their runs are recorded")

    command("check", _check, "whether the recorded runs are the book's, all there, and noted")

    add = command("run", _run, "make one run and store it", STORED)
    add("name", help="EXPERIMENT/VARIANT, as in `list`")
    seeds = "the book has those from 0 on, as many as `list` counts; 0 where none is given"
    add("--seed", type=_seed, default=0, help=seeds)
    add("--steps", type=_positive, help="another number of steps than the recipe's")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    tree = "a folder, .zip or .tgz with train/<class>/* and val/<class>/*"
    add("--data", help=f"imagenet/...: {tree}")

    add = command("runs", _runs, "make every run that is missing; safe to stop and start again")
    add("--jobs", type=_positive, default=os.cpu_count(), help="processes, one thread each")
    add("--only", default="", help="names that begin with this")
    workers = (
        "on the workers of the Dask scheduler at this address; they share this checkout's files"
    )
    add("--scheduler", metavar="ADDRESS", default="", help=workers)

    add = command("ensemble", _ensemble, "record what averaged answers of trained networks give")
    add("name", help="EXPERIMENT/VARIANT-ensemble")

    add = command("verify", _verify, "train the first steps of a recorded run again and compare")
    add("name", help="EXPERIMENT/VARIANT, as in `list`")
    add("--seed", type=_seed, default=0)
    add("--steps", type=_positive, default=500)

    add = command("data", _data, "find or download a data set and check it")
    add("name", choices=(*datasets.names(), *pictures.names(), runtime.NAME))

    examine = "examine any batch normalization"
    add = command("conformance", conformance.run, examine, conformance.STATUS)
    conformance.arguments(add)

    add = command("bench", _bench, "time ours beside its peers, as ratios")
    add("--quick", action="store_true", help="few rounds, three shapes: a first impression")
    device = "the CPU, one thread, or a GPU"
    add("--device", choices=["cpu", "cuda"], default="cpu", help=device)
    paper = "compile the GPU kernels, without a GPU, and reckon their speed from what comes out"
    add("--kernels", action="store_true", help=paper)
    kept = "keep the result there, as in data/bench/cpu.json"
    add("--json", type=Path, metavar="FILE", help=kept)
    return parser


def main(arguments: list[str] | None = None) -> int:
    for stream in (sys.stdout, sys.stderr):  # some terminals have no letters beyond ASCII
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    options = _parser().parse_args(arguments)
    switch = os.environ.get("BNKIT_KERNELS", "on")
    if switch not in ("on", "off"):  # what the layers raise, before anything has begun
        print(f"error: BNKIT_KERNELS is {switch!r}; it must be 'on' or 'off'.", file=sys.stderr)
        return 1
    try:
        return options.do(options) or 0
    except ModuleNotFoundError as error:
        print(f"error: this needs {error.name}, which is not here; {INSTALL}", file=sys.stderr)
        return 1
    except (KeyError, RecordError, datasets.DataError, DeviceError, EngineError, OSError) as error:
        print(f"error: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        goes_on = "; the same command goes on from the last checkpoint"
        kept = options.command in ("run", "runs")
        print(f"stopped{goes_on if kept else ''}", file=sys.stderr)
        return 130


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2^63 - 1")
    return int(text)


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text[:MOST]) <= 10 ** (MOST - 1):
        up_to = f"from 1 to {10 ** (MOST - 1):,}"
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number {up_to}")
    return int(text)


def _list(options: argparse.Namespace) -> None:
    from bnkit.runs import inventory

    there, lines = list(inventory.holdings()), []
    width = max(len(holding.experiment.name) for holding in there)
    for one, recorded, earlier, _ in there:
        counts = f"{recorded}/{one.seeds} recorded{f', {earlier} earlier' if earlier else ''}"
        about = f"{one.name:{width}} {one.recipe.steps:>10,} steps"
        lines.append(f"{about}  {counts:23}  {one.purpose}")
    if any(holding.earlier for holding in there):
        lines.append(
            "earlier: made by another arithmetic than today's; `verify` holds it to bounds"
        )
    try:
        print("\n".join(lines), flush=True)
    except BrokenPipeError:  # as in `list | head`: nobody reads on, and nothing went wrong
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python's end warns


def _check(options: argparse.Namespace) -> int:
    from bnkit.runs import inventory

    for problem in (problems := inventory.problems()):
        print(problem, file=sys.stderr)
    return int(bool(problems))


def _run(options: argparse.Namespace) -> None:
    from bnkit.runs import distributed, experiments, pool

    steps = options.steps or experiments.experiment(options.name).recipe.steps
    first, seeds = distributed.first(), experiments.experiment(options.name).seeds
    if first and options.steps is None and options.seed >= seeds > 0:
        book = f"the book has seeds 0 to {seeds - 1} of {options.name}"
        print(f"{book}: this run is stored in the cache, beside them", file=sys.stderr)
    how = {"steps": options.steps, "device": options.device, "source": options.data}
    with pool.one_thread(), _bar(steps, hidden=not first) as advance:
        record, path = experiments.run(options.name, options.seed, on_step=advance, **how)
        advance(steps)
    if first:
        print(experiments.outcome(record))
        print(f"stored as {path}")


@contextmanager
def _bar(steps: int, hidden: bool = False) -> Iterator[Callable[[int], None]]:
    """A progress bar; yields what moves it to a step."""
    with tqdm(total=steps, unit="step", disable=hidden or None) as bar:
        yield lambda step: bar.update(step - bar.n)


def _runs(options: argparse.Namespace) -> int:
    from bnkit.runs import experiments, pool

    if not any(name.startswith(options.only) for name in experiments.EXPERIMENTS):
        raise KeyError(f"no experiment begins with {options.only!r}; `list` shows their names")
    todo = [(name, seed) for name, seed in experiments.missing() if name.startswith(options.only)]
    if not todo:
        print("nothing to do: every run is recorded")
        return 0
    for name in {name for name, _ in todo}:
        experiments.find_data(name)  # a missing data set is one error now, not one for each run
    failed = False
    recipes = [experiments.recipe_of(*one) for one in todo]
    pieces = [[todo[place] for place in places] for places in pool.pieces(recipes, options.jobs)]
    jobs = min(options.jobs, len(pieces))
    at = options.scheduler
    engine = engines.cluster(at) if at else pool.processes(jobs)
    with engine as executor, tqdm(total=len(todo), unit="run", disable=None) as bar:
        futures = {executor.submit(pool.some_runs, piece): piece for piece in pieces}
        for future in as_completed(futures):
            problem, piece = future.exception(), futures[future]
            failed = failed or problem is not None
            which = ", ".join("{} seed {}".format(*one) for one in piece)
            bar.write(f"{which}: {problem}" if problem else future.result())
            bar.update(len(piece))
    return int(failed)


def _ensemble(options: argparse.Namespace) -> None:
    from bnkit.runs import experiments

    record, path = experiments.ensemble(options.name)
    for members, accuracy in zip(*record.curve("test_accuracy"), strict=True):
        print(f"{record.name}: test accuracy {accuracy:.4f} with {members} members")
    print(f"stored as {path}")


def _verify(options: argparse.Namespace) -> int:
    from bnkit.runs import experiments

    name, seed = options.name, options.seed
    steps = experiments.cut(experiments.experiment(name).recipe, options.steps).steps
    with _bar(steps) as advance:
        verdict = experiments.verify(name, seed, options.steps, advance)
    platform = "that of the record" if verdict.same_platform else "another than the record's"
    code = "that of the record" if verdict.same_arithmetic else "another than the record's"
    print(f"{name} seed {seed}: {verdict.steps} steps compared")
    print(f"  platform: {platform}; arithmetic: {code}")
    for curve, (at_start, over_all) in verdict.differences.items():
        start = "" if verdict.exact or math.isnan(at_start) else f", at the start {at_start:.3g}"
        print(f"  {curve:14} largest difference {over_all:.3g}{start}")
    print(_meaning(verdict))
    return int(not verdict.ok)


def _meaning(verdict: Verdict) -> str:
    if not verdict.steps:
        return "NOT verified: the record has no entry so early; ask for more with --steps"
    if not verdict.ok:
        weights = "" if verdict.same_weights else ", in their weights too"
        return f"NOT verified: the record and this run differ{weights}"
    if verdict.equal:
        return "verified, bit for bit: all of it is equal"
    rest = "the rest differs no more than rounding makes it"
    return f"verified, within bounds: the start is the same, and {rest}"


def _data(options: argparse.Namespace) -> None:
    if options.name == runtime.NAME:
        python = runtime.load()
        size = sum(map(len, python.files.values())) / 1e6
        what = f"{len(python.files)} files, {size:.1f} MB, for cells that run in the browser"
        print(f"{runtime.NAME} {runtime.VERSION}: {what}, sha256 {python.digest}")
        return
    picture_set = options.name in pictures.names()
    data = pictures.load(options.name, _SIZE) if picture_set else datasets.load(options.name)
    train, test = len(data.train_labels), len(data.test_labels)
    counts = f"{train:,} training and {test:,} test examples, {len(data.classes)} classes"
    print(f"{data.name}: {counts}, sha256 {data.digest}")


def _bench(options: argparse.Namespace) -> int | None:
    import torch

    from bnkit.bench import bank, kernels, layer, networks
    from bnkit.runs import pool

    if options.json and options.json.is_dir():  # else it would be said when all is measured
        raise IsADirectoryError(f"--json takes a file, and {options.json} is a folder")
    if options.kernels:
        account = kernels.account()
        print(kernels.summary(account))
        if options.json:
            print(f"stored as {kernels.save(account, options.json)}")
        return 0
    if options.device == "cuda" and not torch.cuda.is_available():
        raise DeviceError
    ratio, copy = "time of the peer over time of ours", "the time of a copy of the same tensor"
    print(f"{ratio}: median (quartiles) over rounds; above 1, ours is faster")
    print(f"the limit: 2.5 times {copy}, over time of ours; at most about 1")
    print("its matrix products: nothing else of a step; at most about 1")
    rounds, rows = 5 if options.quick else 15, []
    about = rounds, options.device, options.quick
    with pool.one_thread():
        for row in chain(*(part.rows(*about) for part in (layer, networks, bank))):
            rows.append(row)
            print(row, flush=True)
        if options.json:  # in here, so that the number of threads is stored as it was
            print(f"stored as {layer.save(rows, options.json, rounds, options.device)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
