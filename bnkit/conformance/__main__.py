"""``python -m bnkit.conformance``: examine a function, an adapter's library or a program."""

import argparse
import sys
from pathlib import Path

from bnkit.conformance import library, program
from bnkit.conformance.examine import DTYPES, examine

WHAT = "module:function; or an adapter's file, adapters/flax.py; or, with --program, a command"


def arguments(add) -> None:
    """What the command takes, told to `add`, an ``add_argument``."""
    add("what", help=WHAT)
    add("--infer", metavar="MODULE:FUNCTION", help="inference, with the face of the step")
    add("--program", action="store_true", help="run it as a command, which speaks JSON lines")
    add("--axis", type=int, choices=(1, -1), help="where features are; found out if left out")
    add("--momentum", type=float, help="the number that the library calls so")
    some = "some of float64 float32 float16; all of them if left out"
    add("--dtypes", nargs="+", default=DTYPES, choices=DTYPES, help=some)
    add("--limit", type=_seconds, default=20.0, help="seconds for each probe")
    add("--only", default="", help="of an adapter, cards whose name holds this")
    add("--record", type=Path, metavar="FOLDER", help="store cards there, as in data/conformance")
    add("--json", action="store_true", help="print JSON instead of a table")


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return seconds


def run(options) -> int:
    """Examine and print; 1 where something was missing, 0 else, whatever the card says."""
    missing = 0
    if options.record and options.record.exists() and not options.record.is_dir():
        print(f"error: {options.record} is a file; --record takes a folder", file=sys.stderr)
        return 1
    try:
        for name, card, why in _cards(options):
            missing += card is None
            if card is None:
                print(f"{name}: {why}", file=sys.stderr)
                continue
            print(card.json() if options.json else card, flush=True)
            if options.record:
                print(f"stored as {library.record(card, options.record)}")
    except (library.Missing, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 1 if missing else 0


def _cards(options):
    if options.what.endswith(".py") and not options.program:
        return library.cards(library.adapter(Path(options.what)), options.only)
    given = {"axis": options.axis, "momentum": options.momentum}
    given |= {"limit": options.limit, "dtypes": options.dtypes}
    if options.program:
        with program.Program(options.what) as running:
            steps = {"step": running.step, "infer": running.infer}
            return [(options.what, examine(**steps, name=options.what, **given), "")]
    infer = library.function(options.infer) if options.infer else None
    step = library.function(options.what)
    return [(options.what, examine(step, infer, name=options.what, **given), "")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bnkit.conformance", description=__doc__)
    arguments(parser.add_argument)
    try:
        sys.exit(run(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit("stopped")
