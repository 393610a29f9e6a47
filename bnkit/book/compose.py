"""Composes the source of the site: settings, pages and executed chapters.

They have the names that they have in the checkout, so that one ``_toc.yml`` serves both and buttons
lead to the committed notebooks. Executed chapters are normalised: what differs from run to run
is left out, so that two builds give the same bytes.
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
from bnkit.page.notebook import INJECTED, cells_of, claims_of, is_injected
from bnkit.page.prose import KEPT, SITE
from bnkit.page.quantities import is_handed_over

PUBLIC_HOSTS = ("github.com", "gitlab.com", "bitbucket.org")  # all that the theme knows
DRAFT = "Draft: chapters of this site may differ from what is committed."
LANGUAGE = {"name": "python", "pygments_lexer": "ipython3"}  # no version


def compose(book: Book, target: Path, executed: Mapping[str, Path]) -> None:
    """Fill the folder `target`, emptied first, with all that Jupyter Book needs for the whole book.

    `executed` maps the document of each chapter to its executed notebook.
    """
    _start(book, target)
    shutil.copy(book.root / "_toc.yml", target)
    for path in sorted((book.root / "chapters").rglob("*")):
        inside = path.relative_to(book.root)
        hidden = any(part.startswith(".") for part in inside.parts)
        if path.is_file() and path.suffix != ".ipynb" and not hidden:
            _copy(path, target / inside)
    for document, notebook in executed.items():
        _write_notebook(notebook, target / f"{document}.ipynb")
    if GENERATED in book.documents():
        (target / f"{GENERATED}.md").write_text(this_build.page(book), encoding="utf-8")


def compose_one(book: Book, target: Path, document: str, executed: Path) -> None:
    """Fill `target` with a site of one chapter, and the bibliography that it cites from."""
    _start(book, target)
    _write_notebook(executed, target / f"{document}.ipynb", alone=True)
    works, chapters = "chapters/bibliography", []
    for path in (book.root / f"{works}.md", book.root / "chapters" / "references.bib"):
        if path.is_file():
            _copy(path, target / path.relative_to(book.root))
            chapters = [{"file": works}]
    toc = {"format": "jb-book", "root": document, "chapters": chapters}
    (target / "_toc.yml").write_text(yaml.safe_dump(toc, sort_keys=False), encoding="utf-8")


def settings(book: Book) -> dict:
    """The settings in ``_config.yml``, with the addresses that only the environment knows.

    Buttons lead to the repository if ``$BNKIT_REPOSITORY_URL`` says where it is; pages name their
    canonical address, and there is a sitemap, if ``$BNKIT_BASE_URL`` says where they lie.
    """
    try:
        config = yaml.safe_load((book.root / "_config.yml").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise PressError(f"_config.yml cannot be read: {error}") from error
    _check_settings(config)
    html = config.setdefault("html", {})
    if book.draft:
        html["announcement"] = DRAFT
    repository = _address("BNKIT_REPOSITORY_URL").removesuffix(".git").rstrip("/")
    if repository and urlsplit(repository).path.count("/") < 2:
        wanted = "it must end with owner and name: .../OWNER/NAME"
        raise PressError(f"BNKIT_REPOSITORY_URL is {repository!r}; {wanted}")
    if repository:
        config.setdefault("repository", {})["url"] = repository
        html |= {"use_repository_button": True, "use_issues_button": True}
    else:
        config.pop("repository", None)
    sphinx = config["sphinx"]
    if repository and urlsplit(repository).netloc not in PUBLIC_HOSTS:
        theme = sphinx["config"].setdefault("html_theme_options", {})
        theme["repository_provider"] = "github"  # how it builds its addresses
    if base := _address("BNKIT_BASE_URL"):
        html["baseurl"] = sphinx["config"]["ogp_site_url"] = f"{base.rstrip('/')}/"
        sphinx["extra_extensions"].append("sphinx_sitemap")
        sphinx["config"]["sitemap_url_scheme"] = "{link}"  # one language, one version
    return config


def _check_settings(config: object) -> None:
    """Raise PressError where the settings do not have the shape that is filled in."""
    top = config if isinstance(config, dict) else {}
    sphinx = top.get("sphinx") if isinstance(top.get("sphinx"), dict) else {}
    inside = sphinx.get("config") if isinstance(sphinx.get("config"), dict) else {}
    wanted = {
        "_config.yml": config,
        "its `html`": top.get("html", {}),
        "its `sphinx`": top.get("sphinx"),
        "its `sphinx.config`": sphinx.get("config"),
        "its `sphinx.config.html_theme_options`": inside.get("html_theme_options", {}),
        "its `repository`": top.get("repository", {}),
    }
    for what, value in wanted.items():
        if not isinstance(value, dict):
            raise PressError(f"_config.yml cannot be used: {what} must be a mapping of settings")
    if not isinstance(sphinx.setdefault("extra_extensions", []), list):
        raise PressError("_config.yml cannot be used: its `sphinx.extra_extensions` must be a list")


def _address(name: str) -> str:
    address = os.environ.get(name, "").strip()
    if address and not address.startswith(("https://", "http://")):
        raise PressError(f"{name} is {address!r}; it must be an address that begins with https://")
    return address


def _start(book: Book, target: Path) -> None:
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    config = yaml.safe_dump(settings(book), sort_keys=False, allow_unicode=True)
    (target / "_config.yml").write_text(config, encoding="utf-8")
    for path in sorted(book.package.rglob("*.py")):  # pages may quote the source
        _copy(path, target / "bnkit" / path.relative_to(book.package))


def _write_notebook(executed: Path, path: Path, alone: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    page = normalise(json.loads(executed.read_bytes()), alone)
    path.write_text(json.dumps(page, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def normalise(notebook: dict, alone: bool = False) -> dict:
    """The executed notebook without times, paths, random ids, and without the injected cell.

    `alone`, it is a page without the others, whose numbers it cannot quote.
    """
    metadata = {**notebook["metadata"], "language_info": LANGUAGE}
    cells = [_normalise_cell(cell, alone) for cell in cells_of(notebook)]
    return {**notebook, "metadata": _without(metadata, "papermill", "widgets"), "cells": cells}


def _normalise_cell(cell: dict, alone: bool) -> dict:
    metadata = _without(cell["metadata"], "papermill", "execution")
    if is_injected(cell):  # the parameter card, shown by the next cell, tells it better
        hidden = {**metadata, "tags": [*metadata["tags"], "remove-cell"]}
        return {**cell, "id": INJECTED, "metadata": hidden}  # papermill's id is random
    if "outputs" not in cell:
        return {**cell, "metadata": metadata}
    metadata["bnkit"] = {"id": cell["id"]}
    if claims_of(cell):  # its place is called as JupyterLab calls it, see ``extension``
        metadata["bnkit"]["place"] = f"cell-id={cell['id']}"
    unseen = lambda output: _is_progress_bar(output) or is_handed_over(output)  # noqa: E731
    shown = [output for output in cell["outputs"] if not unseen(output)]
    outputs = [_for_the_site(output, alone) for output in shown]
    return {**cell, "metadata": metadata, "outputs": outputs}


def _without(metadata: Mapping, *keys: str) -> dict:
    return {key: value for key, value in metadata.items() if key not in keys}


def _for_the_site(output: dict, alone: bool) -> dict:
    """An output as the site shows it: what is for the records in a box by which ``folds`` knows it,
    and of a report with two faces the one that quotes other chapters' numbers, if they are there.
    """
    data = output.get("data", {})
    if output.get("metadata", {}).get("bnkit") == KEPT:
        text = "".join(data["text/markdown"])
        kept = {"text/markdown": f":::{{container}} {KEPT}\n{text}\n:::"}
        return {**output, "data": kept, "metadata": {}}
    if SITE not in data:
        return output
    return {**output, "data": {"text/markdown": data["text/markdown" if alone else SITE]}}


def _is_progress_bar(output: dict) -> bool:
    """A bar that redraws itself on stderr; only reruns have them, where somebody watched."""
    on_stderr = output["output_type"] == "stream" and output["name"] == "stderr"
    return on_stderr and "\r" in "".join(output["text"])


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
