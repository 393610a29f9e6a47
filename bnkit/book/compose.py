"""Composes the source of the site: settings, pages and executed chapters under the names they have
in the checkout.

The same names, so that one ``_toc.yml`` serves both and launch buttons open the committed
notebooks.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

import yaml

from bnkit.book import this_build
from bnkit.book.layout import GENERATED, Book, PressError
from bnkit.book.normalise import normalise


def compose(book: Book, target: Path, executed: Mapping[str, Path]) -> None:
    """Fill the folder `target`, which is emptied first, with everything Jupyter Book needs for the
    whole book.

    `executed` maps the document of each chapter to its executed notebook.
    """
    _start(book, target)
    shutil.copy(book.root / "_toc.yml", target)
    for path in sorted((book.root / "chapters").rglob("*")):
        inside = path.relative_to(book.root)
        if (
            path.is_file()
            and path.suffix != ".ipynb"
            and not any(part.startswith(".") for part in inside.parts)
        ):
            _copy(path, target / inside)
    for document, notebook in executed.items():
        _write_notebook(notebook, target / f"{document}.ipynb")
    if GENERATED in book.documents():
        (target / f"{GENERATED}.md").write_text(this_build.page(book))


def compose_one(book: Book, target: Path, document: str, executed: Path) -> None:
    """Fill `target` with a site of one chapter, and the bibliography that it cites from."""
    _start(book, target)
    _write_notebook(executed, target / f"{document}.ipynb", alone=True)
    works = "chapters/bibliography"
    chapters = []
    for path in (book.root / f"{works}.md", book.root / "chapters" / "references.bib"):
        if path.is_file():
            _copy(path, target / path.relative_to(book.root))
            chapters = [{"file": works}]
    toc = {"format": "jb-book", "root": document, "chapters": chapters}
    (target / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False))


def settings(book: Book) -> dict:
    """The settings in ``_config.yml``, with the addresses that only the environment knows.

    Buttons that lead to the repository stand on the pages if ``$BNKIT_REPOSITORY_URL`` says where
    it is; pages name their canonical address if ``$BNKIT_BASE_URL`` says where they are published.
    """
    try:
        config = yaml.safe_load((book.root / "_config.yml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise PressError(f"_config.yml cannot be read: {error}") from error
    html = config.setdefault("html", {})
    repository = _address("BNKIT_REPOSITORY_URL").removesuffix(".git").rstrip("/")
    if repository and urlsplit(repository).path.count("/") < 2:
        raise PressError(
            f"BNKIT_REPOSITORY_URL is {repository!r}; it must end with owner and name: "
            ".../OWNER/NAME"
        )
    if repository:
        config.setdefault("repository", {})["url"] = repository
        html |= {"use_repository_button": True, "use_issues_button": True}
    else:
        config.pop("repository", None)
    host = urlsplit(repository).netloc
    if host != "github.com":  # Colab opens notebooks from nowhere else
        config.pop("launch_buttons", None)
    if repository and host not in ("github.com", "gitlab.com", "bitbucket.org"):
        theme = config["sphinx"]["config"].setdefault("html_theme_options", {})
        # how it builds its addresses; the theme knows public hosts only
        theme["repository_provider"] = "github"
    if base := _address("BNKIT_BASE_URL"):
        html["baseurl"] = f"{base.rstrip('/')}/"
    return config


def _address(name: str) -> str:
    address = os.environ.get(name, "").strip()
    if address and not address.startswith(("https://", "http://")):
        raise PressError(f"{name} is {address!r}; it must be an address that begins with https://")
    return address


def _start(book: Book, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    (target / "_config.yml").write_text(
        yaml.safe_dump(settings(book), sort_keys=False, allow_unicode=True)
    )
    for path in sorted(book.package.rglob("*.py")):  # pages may quote the source
        _copy(path, target / "bnkit" / path.relative_to(book.package))


def _write_notebook(executed: Path, path: Path, alone: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    page = normalise(json.loads(executed.read_bytes()), alone)
    path.write_text(json.dumps(page, indent=1, ensure_ascii=False) + "\n")


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
