"""How fast it is: ours beside its peers, always as ratios within one run."""
