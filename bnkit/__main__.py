"""``python -m bnkit``: list the experiments, run and verify them, fetch data, measure speed,
examine other layers.
"""

import argparse
import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import chain
from multiprocessing import get_context
from pathlib import Path

from tqdm import tqdm

from bnkit import datasets
from bnkit.conformance import __main__ as conformance
from bnkit.datasets import pictures
from bnkit.runs import records, verification

_SIZE = 64  # pixels; the size at which `data` decodes pictures, so that runs find them ready


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bnkit", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name: str, do: Callable, purpose: str) -> Callable[..., argparse.Action]:
        made = commands.add_parser(name, help=purpose)
        made.set_defaults(do=do)
        return made.add_argument

    command("list", _list, "the experiments of the book, and which of their runs are recorded")

    add = command("run", _run, "make one run and store it")
    add("name", help="EXPERIMENT/VARIANT, as in `list`")
    add("--seed", type=_whole, default=0)
    add("--steps", type=_positive, help="another number of steps; such a run goes to the cache")
    add("--device", choices=("auto", "cpu", "cuda"), default="auto")
    tree = "a folder, .zip or .tgz with train/<class>/* and val/<class>/*"
    add("--data", help=f"imagenet/...: {tree}")

    add = command("runs", _runs, "make every run that is missing; safe to stop and start again")
    add("--jobs", type=_positive, default=os.cpu_count(), help="processes, one thread each")
    add("--only", default="", help="names that begin with this")

    add = command("ensemble", _ensemble, "record what averaged answers of trained networks give")
    add("name", help="EXPERIMENT/VARIANT, for example inception/bn-x30-ensemble")

    add = command("verify", _verify, "train the first steps of a recorded run again and compare")
    add("name", help="EXPERIMENT/VARIANT, as in `list`")
    add("--seed", type=_whole, default=0)
    add("--steps", type=_positive, default=500)

    add = command("data", _data, "find or download a data set and check it")
    add("name", choices=(*datasets.names(), *pictures.names()))

    add = command("conformance", conformance.run, "examine any batch normalization")
    conformance.arguments(add)

    add = command("bench", _bench, "time ours beside its peers, as ratios")
    add("--quick", action="store_true", help="few rounds, three shapes: a first impression")
    device = "the CPU, one thread, or a GPU"
    add("--device", choices=["cpu", "cuda"], default="cpu", help=device)
    kept = "keep the result there, as in data/bench/cpu.json"
    add("--json", type=Path, metavar="FILE", help=kept)
    return parser


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return options.do(options) or 0
    except (KeyError, records.RecordError, datasets.DataError, OSError) as error:
        print(f"error: {error.args[0] if isinstance(error, KeyError) else error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the same command goes on from the last checkpoint", file=sys.stderr)
        return 130


def _whole(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def _positive(text: str) -> int:
    if not _whole(text):
        raise argparse.ArgumentTypeError("0 is too few; give 1 or more")
    return int(text)


def _list(options: argparse.Namespace) -> None:
    from bnkit.runs import experiments

    missing = set(experiments.missing())
    for one in experiments.EXPERIMENTS.values():
        recorded = sum((one.name, seed) not in missing for seed in range(one.seeds))
        print(
            f"{one.name:38} {one.recipe.steps:>7,} steps  {recorded}/{one.seeds} recorded  "
            f"{one.purpose}"
        )


def _run(options: argparse.Namespace) -> None:
    from bnkit.runs import distributed, experiments, pool

    steps = options.steps or experiments.experiment(options.name).recipe.steps
    first = distributed.first()
    with pool.one_thread(), tqdm(total=steps, unit="step", disable=None if first else True) as bar:
        record, path = experiments.run(
            options.name,
            options.seed,
            steps=options.steps,
            device=options.device,
            source=options.data,
            on_step=lambda step: bar.update(step - bar.n),
        )
        bar.update(steps - bar.n)
    if first:
        print(experiments.outcome(record))
        print(f"stored as {path}")


def _runs(options: argparse.Namespace) -> int:
    from bnkit.runs import experiments, pool

    todo = [(name, seed) for name, seed in experiments.missing() if name.startswith(options.only)]
    if not todo:
        print("nothing to do: every run is recorded")
        return 0
    for name in {name for name, _ in todo}:
        experiments.find_data(name)  # a missing data set is one error now, not one for each run
    failed = 0
    jobs = min(options.jobs, len(todo))
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as executor:
        futures = {
            executor.submit(pool.one_run, name, seed): f"{name} seed {seed}" for name, seed in todo
        }
        with tqdm(as_completed(futures), total=len(todo), unit="run", disable=None) as bar:
            for future in bar:
                problem = future.exception()
                failed += problem is not None
                bar.write(f"{futures[future]}: {problem}" if problem else future.result())
    return 1 if failed else 0


def _ensemble(options: argparse.Namespace) -> None:
    from bnkit.runs import experiments

    record, path = experiments.ensemble(options.name)
    for members, accuracy in zip(*record.curve("test_accuracy"), strict=True):
        print(f"{record.name}: test accuracy {accuracy:.4f} with {members} members")
    print(f"stored as {path}")


def _verify(options: argparse.Namespace) -> int:
    from bnkit.runs import experiments

    steps = experiments.cut(experiments.experiment(options.name).recipe, options.steps).steps
    with tqdm(total=steps, unit="step", disable=None) as bar:
        found = experiments.verify(
            options.name, options.seed, options.steps, on_step=lambda step: bar.update(step - bar.n)
        )
    where = (
        "the platform of the record"
        if found.same_platform
        else "another platform than the record's"
    )
    print(f"{options.name} seed {options.seed}: {found.steps} steps compared, on {where}")
    for name, (at_start, over_all) in found.differences.items():
        start = (
            "" if found.same_platform or at_start != at_start else f", at the start {at_start:.3g}"
        )
        print(f"  {name:14} largest difference {over_all:.3g}{start}")
    print(_meaning(found))
    return 0 if found.ok else 1


def _meaning(found: verification.Verdict) -> str:
    if not found.ok:
        return "NOT verified: the record and this run differ" + (
            "" if found.same_weights else ", in their weights too"
        )
    if found.same_platform:
        return "verified: all of it is equal"
    return (
        "verified: the start is the same, and the rest differs no more than another processor's "
        "rounding makes it"
    )


def _data(options: argparse.Namespace) -> None:
    picture_set = options.name in pictures.names()
    found = pictures.load(options.name, _SIZE) if picture_set else datasets.load(options.name)
    print(
        f"{found.name}: {len(found.train_labels):,} training and {len(found.test_labels):,} test "
        "examples, "
        f"{len(found.classes)} classes, sha256 {found.digest}"
    )


def _bench(options: argparse.Namespace) -> int | None:
    import torch

    from bnkit.bench import layer, networks
    from bnkit.runs import pool

    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "error: torch sees no GPU here; leave out --device, or install a CUDA build of torch",
            file=sys.stderr,
        )
        return 1
    print(
        "time of the peer over time of ours: median (quartiles) over rounds; above 1, ours is "
        "faster"
    )
    print(
        "the limit: 2.5 times the time of a copy of the same tensor, over time of ours; at most "
        "about 1"
    )
    rounds, found = 5 if options.quick else 15, []
    with pool.one_thread():
        for row in chain(
            *(each.rows(rounds, options.device, options.quick) for each in (layer, networks))
        ):
            found.append(row)
            print(row, flush=True)
        if options.json:  # in here, so that the number of threads is stored as it was
            print(f"stored as {layer.save(found, options.json, rounds, options.device)}")
    return None


if __name__ == "__main__":
    sys.exit(main())
