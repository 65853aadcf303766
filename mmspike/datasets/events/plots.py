"""Pictures of a recording: its events in space and time, and the frames that a network sees."""

from pathlib import Path
from typing import Any

import numpy as np

ON, OFF = '#d7301f', '#2166ac'
MAX_POINTS = 6000  # more only make the picture dense and large


def frame_picture(frame: np.ndarray) -> np.ndarray:
    """Counts [2, H, W] as RGB [H, W, 3] in 0 to 1: white without events, blue OFF, red ON, black both."""
    limit = max(float(np.quantile(frame[frame > 0], 0.98)), 1e-6) if (frame > 0).any() else 1.0
    off, on = np.clip(frame / limit, 0, 1)
    return np.stack([1 - off, 1 - np.maximum(on, off), 1 - on], -1)


def film_strip(frames: np.ndarray, side: int = 96, columns: int = 8, gap: int = 4) -> np.ndarray:
    """Frames [T, 2, H, W] as one picture, uint8 RGB: ``columns`` in a row, small ones enlarged to at least ``side`` px."""
    pictures = [frame_picture(frame) for frame in frames]
    zoom = -(-side // min(pictures[0].shape[:2]))
    pictures = [np.pad(p.repeat(zoom, 0).repeat(zoom, 1), ((0, gap), (0, gap), (0, 0)), constant_values=0.5) for p in pictures]
    columns = min(columns, len(pictures))
    pictures += [np.ones_like(pictures[0])] * (-len(pictures) % columns)
    rows = [np.concatenate(pictures[i : i + columns], 1) for i in range(0, len(pictures), columns)]
    return (np.concatenate(rows) * 255).round().astype(np.uint8)


def plot_events(events: np.ndarray | None, frames: np.ndarray, path: str | Path, title: str = '') -> None:
    """Draw events over time, time to the right, and below them the frames.

    Args:
        events: An array of fields t (us), x, y, p; None for a recording that is frames already.
        frames: [T, 2, H, W], OFF and ON.
        path: Picture to write, its format by its ending.
        title: Stands above.

    Raises:
        ValueError: ``frames`` has another shape.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if frames.ndim != 4 or frames.shape[1] != 2:
        raise ValueError(f'expected frames [T, 2, H, W], got shape {frames.shape}')
    T, _, height, width = frames.shape
    columns = min(T, 8)
    rows = -(-T // columns)
    top = 0 if events is None else 3
    figure = Figure(figsize=(max(1.6 * columns, 6), top + 1.9 * rows + 0.4), layout='constrained', dpi=110)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9)
    parts: Any = figure.subfigures(2, 1, height_ratios=[3, 1.9 * rows]) if top else [None, figure.subfigures(1, 1)]
    if events is not None:
        axes = parts[0].add_subplot(projection='3d')
        shown = events[:: -(-len(events) // MAX_POINTS)] if len(events) else events
        for p, colour, label in ((1, ON, 'ON'), (0, OFF, 'OFF')):
            e = shown[shown['p'] == p]
            axes.scatter(e['t'] / 1000, e['x'], e['y'], s=0.6, c=colour, label=label, linewidths=0)
        axes.set(xlabel='t, ms', ylabel='x', zlabel='y', ylim=(0, width), zlim=(height, 0))
        axes.set_box_aspect((4, 1.2, 1.2), zoom=1.7)
        axes.tick_params(labelsize=6)
        axes.legend(fontsize=7, markerscale=6)
        axes.view_init(18, -68)
    grid = parts[1].subplots(rows, columns, squeeze=False)
    for ax in grid.flat:
        ax.set_axis_off()
    for step, (ax, frame) in enumerate(zip(grid.flat, frames, strict=False)):
        ax.imshow(frame_picture(frame), interpolation='nearest')
        ax.set_title(f't = {step}, sum {frame.sum():.0f}', fontsize=7)
    figure.savefig(path)
