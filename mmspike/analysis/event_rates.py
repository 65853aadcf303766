"""Energy of a network of events by how much happens: what it costs a second, as a function of the events a second."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from .energy import measure_energy


@dataclass(frozen=True)
class Rate:
    """What a window of events costs, scaled to a second.

    Attributes:
        events: Events a second.
        sops: Accumulations that its spikes cause, a second, counted exactly.
        macs: Multiplications with accumulation of layers that floats feed, a second; counts of events are spikes.
        energy: mJ a second, that is mW, of both.
    """

    events: float
    sops: float
    macs: float
    energy: float


def measure_rates(
    model: nn.Module, windows: Iterable[tuple[int, int, dict | None]], preset: str = 'fp32', every: int | None = None
) -> list[Rate]:
    """Energy of each window of events; every one starts from rest.

    Args:
        model: The network, with its preprocessor.
        windows: Of each its duration in us, its number of events, and the batch of one sample as ``test_step`` takes it;
            None for a window that is not looked at, which costs nothing.
        preset: Costs of an operation, see :func:`measure_energy`.
        every: us from one answer to the next, where windows overlap or have gaps. None: the duration.

    Returns:
        A rate a window, in their order.
    """
    rates = []
    for duration, number, batch in windows:
        events = number * 1e6 / duration
        if batch is None:
            rates.append(Rate(events, 0.0, 0.0, 0.0))
            continue
        total = measure_energy(model, [batch], preset).total
        answers = 1e6 / (every or duration)  # a second
        rates.append(
            Rate(
                events=events,
                sops=total['exact_sops'] * answers,
                macs=total['exact_mac_operations'] * answers,
                energy=total['exact_energy_mj'] * answers,
            )
        )
    return rates


def plot_rates(series: Mapping[str, Sequence[Rate]], path: str | Path, title: str = '') -> None:
    """Draw SOPs and mJ a second over events a second, a colour for each recording.

    Args:
        series: Rates by the name of their recording.
        path: Picture to write, its format by its ending.
        title: Stands above.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout='constrained', dpi=110)
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=9)
    left, right = figure.subplots(1, 2)
    for name, rates in series.items():
        events = [rate.events / 1e3 for rate in rates]
        left.scatter(events, [rate.sops / 1e6 for rate in rates], s=12, label=name)
        right.scatter(events, [rate.energy for rate in rates], s=12, label=name)
    left.set(xlabel='thousand events a second', ylabel='million SOPs a second', xlim=(0, None), ylim=(0, None))
    right.set(xlabel='thousand events a second', ylabel='mJ a second', xlim=(0, None), ylim=(0, None))
    left.legend(fontsize=7)
    figure.savefig(path)
