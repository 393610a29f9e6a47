"""Where a book lies: its documents in reading order, and the folders that the press fills."""

from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import yaml

GENERATED = "chapters/this-build"  # written by the press itself, see this_build.py
LEDGER = "chapters/claims"  # the page with the table of all claims
# pages that search and glossary leave aside
NO_TEACHING = ("chapters/api", LEDGER, "chapters/bibliography", GENERATED)


class PressError(Exception):
    """The book cannot be built; the message is for the terminal."""


def text_in(path: Path) -> str:
    """The text of a file that somebody wrote. Raises PressError, which names it, where it has none."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise PressError(f"{path} cannot be read: {error}; it must be text in UTF-8") from None


@dataclass(frozen=True)
class Book:
    """One checkout of the book."""

    root: Path
    package: Path = Path(__file__).resolve().parents[1]  # bnkit, which the chapters depend on
    draft: bool = False  # whether chapters that differ from what is committed may be in it

    @property
    def build(self) -> Path:
        """Everything the press makes; safe to delete."""
        return self.root / "_build"

    @property
    def executed(self) -> Path:
        """Executed notebooks as papermill left them, each with a stamp of what it was made from."""
        return self.build / "executed"

    @property
    def failed(self) -> Path:
        """Notebooks that failed, as far as they ran, for reading."""
        return self.build / "failed"

    @property
    def source(self) -> Path:
        """The composed source of the site."""
        return self.build / "source"

    @property
    def html(self) -> Path:
        """The published site: always a whole one."""
        return self.build / "html"

    @property
    def lock(self) -> Path:
        """The exact versions of every package the book is made with."""
        return self.root / "requirements.lock"

    def documents(self) -> list[str]:
        """The documents that ``_toc.yml`` lists, in reading order, as ``chapters/08-mnist``."""
        try:
            toc = yaml.safe_load((self.root / "_toc.yml").read_text(encoding="utf-8"))
            files = _files(toc)
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise PressError(f"_toc.yml cannot be read: {error}") from error
        if not files or not all(isinstance(file, str) for file in files):
            raise PressError("_toc.yml lists no pages: it needs a root, and files that are text")
        return files

    def file(self, document: str) -> Path:
        """The notebook or Markdown page of a document."""
        for suffix in (".ipynb", ".md"):
            if (path := self.root / f"{document}{suffix}").is_file():
                return path
        missing = f"there is neither {document}.ipynb nor {document}.md"
        raise PressError(f"_toc.yml lists {document}, but {missing}")

    def written(self) -> list[str]:
        """The documents that somebody wrote, in reading order: all but the press's own."""
        return [document for document in self.documents() if document != GENERATED]

    def notebooks(self) -> list[str]:
        """The documents that are notebooks, in reading order."""
        return [document for document in self.written() if self.file(document).suffix == ".ipynb"]

    def chapter(self, name: str) -> str:
        """The document of the notebook `name`, ``08-mnist`` or ``chapters/08-mnist.ipynb``."""
        names = {document.removeprefix("chapters/"): document for document in self.notebooks()}
        document = names.get(name.removeprefix("chapters/").removesuffix(".ipynb"))
        if document is None:
            close = get_close_matches(name, names, n=1)
            wrong = f"there is no chapter {name!r}" if name else "name one, CHAPTER=08-mnist"
            meant = f"; did you mean {close[0]}?" if close else ""
            raise PressError(f"{wrong}{meant}; the chapters are: {', '.join(names)}")
        return document


def _files(entry: object) -> list[str]:
    """Every ``root`` and ``file`` of a table of contents, depth first."""
    if isinstance(entry, list):
        return [file for each in entry for file in _files(each)]
    if not isinstance(entry, dict):
        return []
    own = [entry[key] for key in ("root", "file") if key in entry]
    return own + [file for value in entry.values() for file in _files(value)]
