"""Converted networks in binary steps: every layer that reads spikes of a neuron of D levels reads D steps of 0 and 1."""

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from mmspike.models.inspection import column_units
from mmspike.models.neurons import ClipFloorShift

from .auditing import audit
from .layers import Accumulate
from .rows import LINEAR


class ReadSteps(nn.Module):
    """A layer that adds its weights up exactly, step by step of D binary ones or of whole counts at once.

    Args:
        layer: A convolution or linear layer that reads the spikes of ``neuron``; one behind it, as a ReLU called as a function
            has it, stays.
        neuron: Its threshold over its levels is the value of a spike, which goes into the weights: that of a channel into the
            column which reads it.
        binary: D binary steps in place of counts.
    """

    def __init__(self, layer: nn.Module, neuron: ClipFloorShift, binary: bool) -> None:
        super().__init__()
        self.levels, self.binary = neuron.levels, binary
        unit = neuron.threshold.detach() / neuron.levels
        if unit.dim():
            unit = column_units(unit, layer.in_features if isinstance(layer, nn.Linear) else layer.in_channels)
        self.register_buffer('unit', unit)
        self.behind = getattr(layer, 'neuron', None)
        plain = deepcopy(layer).double()
        with torch.no_grad():
            plain.weight.mul_(_columns(unit.double(), plain))
        self.sums = Accumulate(plain, self.levels if binary else 1, self.levels)

    def forward(self, x: Tensor) -> Tensor:
        unit = self.unit.to(x.dtype)
        if unit.dim() and not isinstance(self.sums.layer, nn.Linear):
            unit = unit.view(-1, 1, 1)
        counts = (x / unit).round()
        if self.binary:
            counts = torch.cat([(counts > d).to(x.dtype) for d in range(self.levels)])
        y = self.sums(counts)
        return y if self.behind is None else self.behind(y)


def _columns(unit: Tensor, layer: nn.Module) -> Tensor:
    """The units of a layer's inputs as they multiply with its weights."""
    if not unit.dim() or isinstance(layer, nn.Linear):
        return unit
    if isinstance(layer, nn.ConvTranspose2d):  # [in, out / groups, k, k]
        return unit.view(-1, 1, 1, 1)
    # [out, in / groups, k, k]: each group of outputs reads inputs of its own
    return unit.view(layer.groups, 1, -1).expand(-1, layer.out_channels // layer.groups, -1).flatten(0, 1)[..., None, None]


def expand_converted(model: nn.Module, run: Callable[[nn.Module], object], binary: bool = True) -> nn.Module:
    """A copy of a converted network whose layers read D binary steps of every neuron, in all T * D with T = 1.

    The layers add up in float64 as :func:`mmspike.deploy.expand` lets them, so that the outputs equal those of the network of
    whole counts bit by bit.

    Args:
        model: From ``ann_to_snn.py``, see :func:`mmspike.deploy.conversion.convert`.
        run: Runs a forward of the network that it is given on a real image: what each layer reads is seen in it. Layers that
            read floats stay as they are, such as the first one and one behind an average pool.
        binary: False leaves the counts whole: the same network in integers, to compare with.

    Raises:
        ValueError: No layer reads spikes of a converted neuron.

    Example:
        >>> import torch
        >>> from mmspike.deploy import expand_converted
        >>> from mmspike.deploy.conversion import convert, find
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 2, 3))
        >>> x = torch.randn(1, 3, 8, 8)
        >>> network = convert(model, find(model, [lambda: model(x)]), levels=4)
        >>> steps, counts = (expand_converted(network, lambda m: m(x), binary) for binary in (True, False))
        >>> torch.equal(steps(x), counts(x))
        True
    """
    network = deepcopy(model).eval()
    with torch.no_grad():
        report = audit(network, lambda: run(network))
    modules = dict(network.named_modules())
    changed = 0
    for operation in report.operations:
        layer = modules.get(operation.name)
        neurons = [modules[name] for name in operation.neurons if name in modules]
        if operation.fed == 'floats' or not isinstance(layer, LINEAR) or len(neurons) != 1:
            continue
        if isinstance(neurons[0], ClipFloorShift):
            owner, _, name = operation.name.rpartition('.')
            network.get_submodule(owner)._modules[name] = ReadSteps(layer, neurons[0], binary)
            changed += 1
    if not changed:
        raise ValueError('no layer of this network reads the spikes of a converted neuron: convert it with ann_to_snn.py')
    return network.requires_grad_(False)
