"""``python -m bnkit.conformance``: examine a function, an adapter's library or a program."""

import argparse
import sys
from pathlib import Path

from bnkit.conformance import library, program
from bnkit.conformance.examine import DTYPES, examine

STATUS = """\
Exit status: 0 where every card was made, whatever it says; 1 where one was not, or where something
that was asked for is not there or does not apply; 2 for options that cannot be read."""
WHAT = "module:function; or an adapter's file, adapters/flax.py; or, with --program, a command"


def arguments(add) -> None:
    """What the command takes, told to `add`, an ``add_argument``."""
    add("what", help=WHAT)
    add("--infer", metavar="MODULE:FUNCTION", help="inference, with the face of the step")
    add("--program", action="store_true", help="run it as a command, which speaks JSON lines")
    add("--axis", type=int, choices=(1, -1), help="where features are; found out if left out")
    add("--momentum", type=float, help="the number that the library calls so")
    some = "some of float64 float32 float16; all of them if left out"
    add("--dtypes", nargs="+", choices=DTYPES, help=some)
    add("--limit", type=_seconds, help="seconds for each probe; 20 if left out")
    add("--only", metavar="CARD", help="of an adapter, the card of this name; or all that hold it")
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
    try:
        _refuse(options)
        for name, card, why in _cards(options):
            missing += card is None
            if card is None:
                print(f"{name}: {why}", file=sys.stderr)
                continue
            print(card.json() if options.json else f"{card}\n", end="", flush=True)
            if options.record:
                # Whoever reads JSON reads nothing else.
                to = sys.stderr if options.json else sys.stdout
                print(f"stored as {library.record(card, options.record)}", file=to)
    except (library.Missing, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 1 if missing else 0


APPLIES = {
    "a function": ("infer", "axis", "momentum", "dtypes", "limit"),
    "a program": ("axis", "momentum", "dtypes", "limit"),
    "an adapter": ("only",),
}


def _kind(options) -> str:
    if options.program:
        return "a program"
    return "an adapter" if options.what.endswith(".py") else "a function"


def _refuse(options) -> None:
    """Raise Missing for what could not be done as it was asked for."""
    if options.record and options.record.exists() and not options.record.is_dir():
        raise library.Missing(f"{options.record} is a file; --record takes a folder")
    kind = _kind(options)
    others = {name for names in APPLIES.values() for name in names} - set(APPLIES[kind])
    if given := sorted(f"--{name}" for name in others if getattr(options, name) is not None):
        allowed = ", ".join(f"--{name}" for name in APPLIES[kind])
        raise library.Missing(f"{options.what} is {kind}: leave out {', '.join(given)}; what can be "
                              f"said of it is {allowed}")  # fmt: skip


def _cards(options):
    kind = _kind(options)
    if kind == "an adapter":
        return library.cards(library.adapter(Path(options.what)), options.only or "")
    names = ("axis", "momentum", "limit", "dtypes")
    given = {k: getattr(options, k) for k in names if getattr(options, k) is not None}
    if kind == "a program":
        with program.Program(options.what) as running:
            steps = {"step": running.step, "infer": running.infer}
            return [(options.what, examine(**steps, name=options.what, **given), "")]
    infer = library.function(options.infer) if options.infer else None
    step = library.function(options.what)
    return [(options.what, examine(step, infer, name=options.what, **given), "")]


if __name__ == "__main__":
    about = {"prog": "python -m bnkit.conformance", "description": __doc__, "epilog": STATUS}
    parser = argparse.ArgumentParser(**about)
    arguments(parser.add_argument)
    try:
        sys.exit(run(parser.parse_args()))
    except KeyboardInterrupt:
        sys.exit("stopped")
