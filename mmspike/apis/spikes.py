"""Firing rates of a stage, drawn over the image that the network looked at."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from torch import nn

from mmspike.analysis.capture import last_of_each_stage, neuron_maps
from mmspike.models.inspection import stage_of

from .sources import InputError

ALL = 'all'


@contextmanager
def _in_one_pass(model: nn.Module) -> Iterator[None]:
    """A segmentor that is tested in windows sees the whole image at once: the map is of the image, not of its first window."""
    test_cfg = getattr(model, 'test_cfg', None) or {}
    windows = test_cfg.get('mode') == 'slide'
    if windows:
        test_cfg['mode'] = 'whole'
    try:
        yield
    finally:
        if windows:
            test_cfg['mode'] = 'slide'


def spike_maps(model: nn.Module, batch: dict, stage: str = ALL) -> dict[str, np.ndarray]:
    """Firing rates of the first image of a batch, of the last neuron layer of each stage, in a forward from rest.

    Args:
        stage: A stage such as 'backbone.stages.2' or 'neck', or 'all'. RoI heads have none: they see regions.

    Returns:
        Stage -> float32 [H, W], spikes per neuron and step, the mean over channels and time steps.

    Raises:
        InputError: The network does not fire, or has no such stage.
    """
    with _in_one_pass(model):
        last = last_of_each_stage(neuron_maps(model, batch))
    maps = {stage_of(name): spikes for name, (_, spikes) in last.items() if not name.startswith('roi_head')}
    if not maps:
        raise InputError(f'{type(model).__name__} has no neuron with a map, so there are no spikes to show')
    if stage == ALL:
        return maps
    if stage not in maps:
        raise InputError(f'no stage {stage!r} with spikes: expected {ALL!r} or one of {", ".join(maps)}')
    return {stage: maps[stage]}


def plot_overlay(image: np.ndarray | None, maps: dict[str, np.ndarray], path: str | Path | IO[bytes]) -> None:
    """Write the maps as a PNG, each spread over the image, which shows through where little fires, with its scale beside it.

    Args:
        image: uint8 RGB [H, W, 3], or None for the maps alone.
        maps: Stage -> [h, w], see :func:`spike_maps`.
    """
    from matplotlib.figure import Figure

    height, width = image.shape[:2] if image is not None else next(iter(maps.values())).shape
    columns = min(4, len(maps))
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(3 * columns, (2.3 * height / width + 0.3) * rows), layout='constrained', dpi=110)
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for ax in axes:
        ax.set_axis_off()
    for ax, (stage, rates) in zip(axes, maps.items(), strict=False):
        top = float(rates.max()) or 1.0
        opacity: float | np.ndarray = 1.0
        if image is not None:
            ax.imshow(image.mean(2), cmap='gray', vmin=0, vmax=255)  # grey: the colours are the rates'
            opacity = 0.75 * rates / top
        shown = ax.imshow(
            rates, cmap='inferno', vmin=0, vmax=top, alpha=opacity, extent=(-0.5, width - 0.5, height - 0.5, -0.5)
        )
        ax.set_title(stage, fontsize=8)
        figure.colorbar(shown, ax=ax, shrink=0.7).ax.tick_params(labelsize=6)
    figure.savefig(path, format='png')
