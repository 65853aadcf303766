"""Pictures: firing rates by depth, spike and membrane maps, attention maps, energy against accuracy."""

from pathlib import Path

import numpy as np

from mmspike.models.inspection import stage_of

#: colours that differ for the colour-blind (Okabe and Ito)
COLOURS = ('#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#f0e442', '#000000')


def _figure(width: float, height: float, rows: int = 1, columns: int = 1):
    """A figure without a window, and its axes [rows, columns]."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout='constrained', dpi=110)
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False)


def plot_rates(report: dict, path: str | Path) -> None:
    """Firing rate of every neuron layer in order of depth, coloured by stage.

    Args:
        report: A JSON report, see :func:`mmspike.analysis.report.load_report`.

    Raises:
        ValueError: The network has no neuron.
    """
    neurons = report['neurons']
    if not neurons:
        raise ValueError('the report has no neuron: the network does not spike')
    stages = list(dict.fromkeys(stage_of(n['name']) for n in neurons))
    figure, axes = _figure(max(7, 0.11 * len(neurons) + 2.5), 4)
    ax = axes[0, 0]
    for i, stage in enumerate(stages):
        layers = [(x, n) for x, n in enumerate(neurons) if stage_of(n['name']) == stage]
        colour = COLOURS[i % len(COLOURS)]
        hatch = '////' if i >= len(COLOURS) else None
        rates = [n['firing_rate'] for _, n in layers]
        ax.bar([x for x, _ in layers], rates, 0.85, label=stage, color=colour, hatch=hatch, edgecolor='white', linewidth=0)
    silent = [x for x, n in enumerate(neurons) if n['firing_rate'] == 0]
    if silent:
        ax.plot(silent, [0] * len(silent), 'v', color='#d00000', label='silent', clip_on=False)
    ax.set(xlabel='neuron layer, in order of execution', ylabel='spikes per neuron and step', xlim=(-1, len(neurons)))
    ax.legend(fontsize=8, ncols=2)
    figure.savefig(path)


def plot_maps(image: np.ndarray | None, maps: dict[str, tuple[np.ndarray, np.ndarray]], path: str | Path) -> None:
    """The image, and beside it a pair per stage: the membrane of its last neuron and the spikes that it sent.

    Args:
        image: uint8 RGB [H, W, 3].
        maps: Name -> (membrane, spikes), see :func:`mmspike.analysis.capture.neuron_maps`.
    """
    columns = len(maps) + (image is not None)
    figure, axes = _figure(2.5 * columns, 5, 2, columns)
    for ax in axes.flat:
        ax.set_axis_off()
    if image is not None:
        axes[0, 0].imshow(image)
        axes[0, 0].set_title('image', fontsize=8)
    for ax, (name, (membrane, spikes)) in zip(axes.T[columns - len(maps) :], maps.items(), strict=True):
        limit = float(np.abs(membrane).max()) or 1.0
        low = ax[0].imshow(membrane, cmap='RdBu_r', vmin=-limit, vmax=limit)
        high = ax[1].imshow(spikes, cmap='viridis', vmin=0)
        ax[0].set_title(f'{stage_of(name)}\nmembrane', fontsize=8)
        ax[1].set_title('spikes', fontsize=8)
        figure.colorbar(low, ax=ax[0], shrink=0.6).ax.tick_params(labelsize=6)
        figure.colorbar(high, ax=ax[1], shrink=0.6).ax.tick_params(labelsize=6)
    figure.savefig(path)


def plot_attention(image: np.ndarray | None, maps: dict[str, np.ndarray], path: str | Path) -> None:
    """The image, and beside it how much each position is attended to, for every attention.

    Args:
        image: uint8 RGB [H, W, 3].
        maps: Name -> [H, W], see :func:`mmspike.analysis.capture.attention_maps`.
    """
    panels = len(maps) + (image is not None)
    columns = min(5, panels)
    rows = -(-panels // columns)
    figure, axes = _figure(2.3 * columns, 2.1 * rows, rows, columns)
    for ax in axes.flat:
        ax.set_axis_off()
    if image is not None:
        axes[0, 0].imshow(image)
        axes[0, 0].set_title('image', fontsize=8)
    for ax, (name, weights) in zip(axes.flat[panels - len(maps) :], maps.items(), strict=False):
        shown = ax.imshow(weights, cmap='viridis')
        ax.set_title(name, fontsize=7)
        figure.colorbar(shown, ax=ax, shrink=0.6).ax.tick_params(labelsize=6)
    figure.savefig(path)


def plot_tradeoff(reports: dict[str, dict], path: str | Path, exact: bool = True) -> None:
    """Energy against accuracy, a point per report, and with each the energy of its ordinary twin.

    Args:
        reports: Label -> JSON report that has a metric (``get_energy.py --metric``).
        exact: The exact count rather than the field's formula.

    Raises:
        ValueError: A report has no metric, or they have different ones or different costs.
    """
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    without = [label for label, r in reports.items() if not r['info'].get('metric')]
    if without:
        raise ValueError(f'no metric in {", ".join(without)}: write the report with get_energy.py --metric NAME=VALUE')
    names = {r['info']['metric']['name'] for r in reports.values()}
    presets = {r['preset']['name'] for r in reports.values()}
    if len(names) != 1 or len(presets) != 1:
        raise ValueError(f'reports must share one metric and one preset, got {sorted(names)} and {sorted(presets)}')
    figure, axes = _figure(7, 4.5)
    ax = axes[0, 0]
    for i, (label, report) in enumerate(reports.items()):
        value = report['info']['metric']['value']
        energy = report['total']['exact_energy_mj' if exact else 'energy_mj']
        colour = COLOURS[i % len(COLOURS)]
        ax.plot([energy, report['total']['twin_energy_mj']], [value, value], ':', color=colour, linewidth=1)
        ax.plot(report['total']['twin_energy_mj'], value, 'o', color=colour, fillstyle='none')
        ax.plot(energy, value, 'o', color=colour, label=label)
    ax.set(
        xscale='log',
        xlabel=f'energy per image, mJ ({presets.pop()}, {"exact events" if exact else "formula"}); ring: ordinary twin',
        ylabel=names.pop(),
    )
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(FormatStrFormatter('%g'))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.margins(0.15)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=8)
    figure.savefig(path)


def plot_reconstructions(rows: list[tuple[np.ndarray, ...]], title: str, path: str | Path) -> None:
    """Pictures of a masked autoencoder, an image a row: itself, what is left of it, the hidden patches painted, all painted.

    Args:
        rows: uint8 RGB [H, W, 3], four an image.
    """
    height, width = rows[0][0].shape[:2]
    figure, axes = _figure(2.2 * 4, 2.2 * height / width * len(rows) + 0.6, len(rows), 4)
    for line, pictures in zip(axes, rows, strict=True):
        for ax, picture in zip(line, pictures, strict=True):
            ax.imshow(picture, interpolation='nearest')
            ax.set_axis_off()
    for ax, name in zip(axes[0], ('image', 'visible', 'hidden patches painted', 'all painted'), strict=True):
        ax.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=9)
    figure.savefig(path)
