"""A batch as a table of maps, images down and channels across: which outputs change with one."""

import numpy as np
from matplotlib.colors import to_rgba

from bnkit.plots import PIXELS, Array
from bnkit.plots.colours import HIGHLIGHT, NEUTRAL

SIDE = 3  # as wide as a map of so many pixels is drawn what has one value


def changes(axes, changed: Array, value: tuple[int, int, int, int], colour: str) -> None:
    """Draw the outputs that change, (N, C, H, W) of bool, in `colour` when the orange one moves.

    `value` is its image, channel, row and column. The axes have a tick for each image and channel.
    """
    image, channel, *place = value
    if changed.shape[2:] == (1, 1):
        changed, place = changed.repeat(SIDE, 2).repeat(SIDE, 3), [slice(None)] * 2
    n, channels, height, width = changed.shape
    still, moved = (np.array(to_rgba(one, alpha)) for one, alpha in ((NEUTRAL, 0.35), (colour, 1)))
    # a gap below and beside each map, through which the page is seen
    table = np.zeros((n, height + 1, channels, width + 1, 4))
    inside = table[:, :height, :, :width]
    inside[...] = np.where(changed.transpose(0, 2, 1, 3)[..., None], moved, still)
    inside[image, place[0], channel, place[1]] = to_rgba(HIGHLIGHT)
    picture = table.reshape(n * (height + 1), channels * (width + 1), 4)[:-1, :-1]
    axes.imshow(picture, **PIXELS)
    axes.set_xticks(np.arange(channels) * (width + 1) + (width - 1) / 2)
    axes.set_yticks(np.arange(n) * (height + 1) + (height - 1) / 2)
    axes.tick_params(length=0)
    axes.grid(False)
    axes.spines[:].set_visible(False)
