"""Turns a composed source into the static site, and publishes it whole, or leaves the last one."""

import hashlib
import os
import re
import shutil
import subprocess
from html import escape
from pathlib import Path

import yaml

from bnkit.book.chapter import program
from bnkit.book.layout import PressError

# The root page as Jupyter Book writes it, and as we do.
LEADS_ON = re.compile(r'<meta http-equiv="Refresh" content="0; url=(?P<target>[^"]+)" />')
ROOT = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Refresh" content="0; url={target}">
<title>{title}</title>
</head>
<body><p><a href="{target}">{title}</a></p></body>
</html>
"""


def build(source: Path, work: Path, *, strict: bool = True) -> Path:
    """Build the site of `source` inside the fresh folder `work`; return the folder of pages.

    With `strict`, every warning is an error. Raises PressError with the warnings.
    """
    shutil.rmtree(work, ignore_errors=True)
    jupyter_book = "from jupyter_book.cli.main import main; main()"
    command = program(jupyter_book, "build", str(source), "--path-output", str(work))
    command += ["-W", "-n", "--keep-going"] if strict else []
    fixed = {"PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "0", "NO_COLOR": "1", "TZ": "UTC"}
    done = subprocess.run(
        command, env={**os.environ, **fixed}, capture_output=True, text=True, check=False
    )
    pages = work / "_build" / "html"
    if done.returncode or not (pages / "index.html").is_file():
        raise PressError(f"Jupyter Book says:\n{complaints(done.stdout + done.stderr, source)}")
    title = yaml.safe_load((source / "_config.yml").read_text(encoding="utf-8")).get("title", "")
    name_the_root(pages / "index.html", title)
    return pages


def name_the_root(index: Path, title: str) -> None:
    """Give the first page, which only leads on to another, a title and a link for readers."""
    if leads_on := LEADS_ON.fullmatch(index.read_text(encoding="utf-8").strip()):
        page = ROOT.format(title=escape(title), target=leads_on["target"])
        index.write_text(page, encoding="utf-8")


def complaints(output: str, source: Path) -> str:
    """The lines of Sphinx's output that are about problems; if there are none, its end."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", output).replace(f"{source}{os.sep}", "")
    plain, crash, told = plain.partition("Sphinx error:\n")
    told, *_ = told.partition("\nTraceback (most recent call last):\n")  # ours, or Jupyter Book's
    loud = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b")
    lines = [line for line in plain.splitlines() if loud.search(line)]
    lines += [crash.strip(), *told.splitlines()] if crash else []
    return "\n".join(f"  {line}" for line in lines or plain.splitlines()[-30:])


def publish(fresh: Path, html: Path) -> None:
    """Put the folder `fresh` in the place of `html`; whatever goes wrong, one of them is there.

    Whoever serves the pages may read them, whatever the umask of who built them.
    """
    for path in (fresh, *fresh.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    last = _last_good(html)
    recover(html)
    shutil.rmtree(last, ignore_errors=True)
    if html.exists():
        os.rename(html, last)
    try:
        os.rename(fresh, html)
    except OSError:
        recover(html)
        raise
    shutil.rmtree(last, ignore_errors=True)


def inventory(html: Path) -> str:
    """A digest of which files the site has, and their sizes: one that is gone or cut is missed."""
    files = sorted(path for path in html.rglob("*") if path.is_file())
    named = (f"{path.relative_to(html).as_posix()} {path.stat().st_size}\n" for path in files)
    return hashlib.sha256("".join(named).encode()).hexdigest()


def recover(html: Path) -> None:
    """Undo a swap that was cut short between its two steps."""
    if not html.exists() and _last_good(html).exists():
        os.rename(_last_good(html), html)


def _last_good(html: Path) -> Path:
    return html.with_name(f"{html.name}.last")
