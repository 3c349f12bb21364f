"""D4: where on the cameras' pictures the action tokens look."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from drifting_vla_jax.figures.style import NothingToDrawError, Theme, picture, title

_MOMENTS, _VIEWS = 5, 4
_TIMES_EVEN = 4.0  # full colour is never less than so many times an even share, so that no preference stays pale
_HEAT = LinearSegmentedColormap.from_list("attention", [(0.9, 0.25, 0, 0), (1, 0.45, 0, 0.55), (1, 0.95, 0.2, 0.9)])


@picture(1200, 640)
def attention_maps(
    figure: Figure,
    theme: Theme,
    frames: np.ndarray,
    attention: np.ndarray,
    steps: np.ndarray,
    cameras: Sequence[str],
    instruction: str,
) -> None:
    """Pictures at a few moments of an episode with the attention over them; a row per camera (the first four).

    Args:
      frames: [n v H W 3] uint8. attention: [n v r r], shares. steps: [n] control steps.

    Raises:
      NothingToDrawError: attention is not known (it has no views).
    """
    if not attention.size:
        raise NothingToDrawError("the snapshot holds no attention")
    figure.set_layout_engine("compressed")
    views = min(len(cameras), _VIEWS)
    moments = np.unique(np.linspace(0, len(steps) - 1, _MOMENTS).round().astype(int))
    grid = figure.subplots(views, len(moments), squeeze=False)
    shown_heat = attention[moments, :views]
    even = shown_heat.sum((1, 2, 3)).max() / shown_heat[0].size  # of one patch, if all were looked at alike
    norm = Normalize(0, max(float(shown_heat.max()), _TIMES_EVEN * even, 1e-12))
    for (row, column), axes in np.ndenumerate(grid):
        i = moments[column]
        view, heat = frames[i, row], attention[i, row]
        extent = (0, view.shape[1], view.shape[0], 0)
        grey = view.mean(-1, keepdims=True)
        axes.imshow((0.35 * view + 0.65 * grey).astype(np.uint8), extent=extent)
        shown = axes.imshow(heat, cmap=_HEAT, norm=norm, extent=extent, interpolation="bilinear")
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_visible(False)
        axes.set_xlabel(f"{heat.sum():.0%} of attention", fontsize="small", labelpad=2)
        if row == 0:
            axes.set_title(f"control step {steps[i]}", fontsize="small")
        if column == 0:
            axes.set_ylabel(cameras[row])
    bar = figure.colorbar(shown, ax=grid, fraction=0.025, pad=0.01, aspect=40)
    bar.ax.set_facecolor("#444444")
    bar.set_label("share of attention on one patch")
    title(figure, f"Attention of the action tokens: “{instruction[:60]}”")
