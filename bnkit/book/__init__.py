"""The press: executes the chapters, checks them, and builds the static book.

``python -m bnkit.book --help`` lists its commands. From notebook to page, a module per step::

    layout         where everything lies, read from _toc.yml
    structure      what is committed: clean notebooks, the folder, the lock
    typed_numbers  numbers in text that nothing computes
    stale          which chapters are out of date
    execute        runs those, by papermill (chapter, worker)
    evidence       whether the ledger of claims and the chapters bear each other out
    claim_cells    the claims as cells, to which links lead in JupyterLab
    gate           which executed chapters may be published
    compose        the source folder of the site, without what differs from run to run
    this_build     the page on how it was made
    site           Jupyter Book, and the swap of the published folder
    extension      what Sphinx itself has to be taught, links to claims among it
    explorable     the directive of what readers can move
    run_here       cells and exercises that run in the reader's browser
    figures        figures inside the page, in both layouts
    rooms          the directive that documents a room of the package
    pages          what a built page must look like
    build          all of it, in order
    rerun          one chapter again, with other parameters
    words          parameters and grids as one writes them on a command line
    compare        re-runs side by side, on one page
    sweep          every point of a grid, and one table (points)
    sheet          the pages of comparisons and sweeps
    measure        how much prose leads how much code

``bnkit.page.notebook`` reads the cells for all of them.
"""
