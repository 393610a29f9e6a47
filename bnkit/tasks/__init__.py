"""The families of experiments: from a recipe to a network, its data, and what is watched while it trains.

A task is made from a recipe and a device; ``bnkit.experiments`` trains it without knowing what it is. It uses
``model`` and ``trained`` (the same, or a wrapper around it), ``digest`` of the data, ``batches(start)``,
``watches(checksums)``, ``loss``, ``PAUSE_EVERY`` (steps) and ``MEANING``, what each curve means.
"""
