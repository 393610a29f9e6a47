"""The press: executes the chapters, checks them, and builds the static book.

``python -m bnkit.book --help`` lists its commands. From clean notebook to page, one
module per step::

    layout         where everything lies, read from _toc.yml
    structure      what a committed notebook must look like (chapter, python: how it is read)
    strip          how outputs are removed from it
    typed_numbers  numbers in text that nothing computes
    pins           the versions that the book stands on
    stale          which chapters are out of date
    execute        runs those, by papermill (worker)
    evidence       whether the ledger of claims and the chapters bear each other out
    gate           which executed chapters may be published
    normalise      removes what differs from run to run
    compose        the source folder of the site
    this_build     the page on how it was made
    site           Jupyter Book, and the swap of the published folder
    extension      what Sphinx itself has to be taught
    marks          places for links to claims, colours for verdicts
    pages          what a built page must look like
    build          all of it, in order
    rerun          one chapter again, with other parameters
    measure        how much prose leads how much code
"""
