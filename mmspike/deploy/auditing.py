"""The audit: a real forward tells which operations of a network read spikes and which read floats."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from mmspike.analysis.counter import KINDS, LayerRecord, OpCounter
from mmspike.models.inspection import evaluating

#: arithmetic without weights that is not part of a neuron; additions of membranes are what spiking hardware does anyway
OTHER = (
    'region sampling (RoIAlign)',
    'pooling and resampling',
    'normalisation',
    'other elementwise arithmetic',
)


@dataclass
class Audit:
    """The operations of one forward.

    Attributes:
        operations: Every multiply-accumulate operation, in order of execution, with what fed it.
        other: (category, operation, module) of further arithmetic inside modules: resampling, norms, products of elements.
            Outside of them, in a host's post-processing, it is not listed.
        unknown: (operation, module) on floats that no table of :mod:`mmspike.analysis` knows.
    """

    operations: list[LayerRecord]
    other: list[tuple[str, str, str]]
    unknown: list[tuple[str, str]]

    @property
    def float_fed(self) -> list[str]:
        """Names of the operations that floats feed."""
        return [f'{r.name or "(model)"} ({r.op})' for r in self.operations if r.fed == KINDS[2]]

    @property
    def spike_driven(self) -> bool:
        """True if no operation but the first reads floats, and none is unknown."""
        rest = [r for r in self.operations[1:] if r.fed == KINDS[2]]
        return bool(self.operations) and not rest and not self.unknown

    def __str__(self) -> str:
        rows = [('operation', 'kind', 'fed by', 'D', 'T', 'spikes of')]
        for r in self.operations:
            neurons = sorted(r.neurons)
            sources = neurons[0] + (f' and {len(neurons) - 1} more' if len(neurons) > 1 else '') if neurons else '-'
            spikes = r.fed != KINDS[2]
            rows.append(
                (r.name or '(model)', r.op, r.fed, str(r.levels) if spikes else '-', str(r.steps), sources if spikes else '-')
            )
        widths = [max(len(row[i]) for row in rows) for i in range(5)]
        lines = ['  '.join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows]
        if self.other:
            lines += ['', 'Arithmetic on membranes without weights, outside of neurons:']
            lines += [f'- {category}: {op} in {module}' for category, op, module in self.other]
        if self.unknown:
            lines += ['', 'UNKNOWN operations on floats, not judged:']
            lines += [f'- {op} in {module or "(model)"}' for op, module in self.unknown]
        named = self.float_fed
        if self.spike_driven and named:
            verdict = 'spike-driven: only the first operation reads floats'
        elif self.spike_driven:
            verdict = 'spike-driven: no operation reads floats'
        else:
            verdict = 'not spike-driven'
        lines += ['', f'Verdict: {verdict}']
        lines += [f'float-fed: {len(named)} of {len(self.operations)} operations' + (f': {", ".join(named)}' if named else '')]
        return '\n'.join(lines)


def audit(model: nn.Module, run: Callable[[], object]) -> Audit:
    """Lists every multiply-accumulate operation of a forward of ``model`` with what feeds it.

    What feeds an operation is told from its values and from where they come, see :class:`mmspike.analysis.OpCounter`, so any
    model can be audited, spiking or not.

    Args:
        model: Is put into evaluation mode and back; neurons that keep their membrane are reset before.
        run: Runs the forward, for example ``lambda: model.test_step(batch)`` with a real image.

    Raises:
        ValueError: The forward multiplies nothing: no operation was seen.

    Example:
        >>> import torch
        >>> from mmspike.deploy import audit, fuse
        >>> from mmspike.models import SpikingVGG
        >>> network = fuse(SpikingVGG(dict(dims=(4, 8, 8), depths=(2, 1, 1)), T=2))
        >>> report = audit(network, lambda: network(torch.randn(1, 3, 32, 32)))
        >>> len(report.operations), report.float_fed, report.spike_driven
        (4, ['stem.0.conv (conv)'], True)
    """
    counter = OpCounter(model)
    with evaluating(model), counter:
        run()
    if not counter.layers:
        raise ValueError(f'the forward of {type(model).__name__} has no operation with weights: run it on the model itself')
    other = [
        (category, op, place)
        for category in OTHER
        for (c, op), places in counter.places.items()
        for place in sorted(places)
        if c == category and place
    ]
    return Audit(list(counter.layers.values()), other, list(counter.unknown))
