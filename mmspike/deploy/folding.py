"""The arithmetic of folding: norms and factors into weights, values of spikes into what reads them, scales into thresholds."""

from copy import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmspike.models.layers import RepConv
from mmspike.models.neurons import IF, LIF, PLIF, SFA, BaseNeuron, sfa

from .layers import OverTime, SpikeFed, ThresholdSFA


def merge_repconv(module: RepConv) -> nn.Conv2d:
    """RepConv as one 3x3 convolution with zero padding and bias, which it equals at the borders, too."""
    a1, b1 = norm_affine(module.norm1)
    a2, b2 = norm_affine(module.norm2)
    w1, w2 = module.conv1.weight.double().flatten(1), module.conv2.weight.double().flatten(1)
    dw = module.dwconv.weight.double().squeeze(1)
    weight = torch.einsum('o,om,mhw,m,mi->oihw', a2, w2, dw, a1, w1)
    bias = a2 * (w2 @ (b1 * dw.sum((1, 2)))) + b2
    c = w1.shape[0]
    return set_parameters(nn.Conv2d(c, c, 3, padding=1), weight, bias, module.conv1.weight)


def set_parameters(layer: nn.Module, weight: Tensor, bias: Tensor | None, like: Tensor) -> nn.Module:
    """The layer with these parameters, of the dtype and on the device of ``like``."""
    layer.weight = nn.Parameter(weight.to(like))
    layer.bias = None if bias is None else nn.Parameter(bias.to(like))
    return layer


def norm_affine(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Factor and offset that a batch norm applies in evaluation, float64."""
    factor = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        factor = factor * norm.weight.double()
    offset = -norm.running_mean.double() * factor
    return factor, offset if norm.bias is None else offset + norm.bias.double()


def affine(layer: nn.Module, factor: Tensor | None = None, offset: Tensor | None = None, in_scale: float = 1.0) -> nn.Module:
    """A copy of a convolution or linear layer on ``in_scale`` times the input, its output times ``factor`` plus ``offset``."""
    if factor is None and in_scale == 1:
        return layer
    w = layer.weight.double() * in_scale
    bias = None if layer.bias is None else layer.bias.double()
    if factor is not None:
        if isinstance(layer, nn.ConvTranspose2d):  # [in, out / groups, …]
            groups = factor.view(layer.groups, 1, -1, 1, 1)
            w = (w.view(layer.groups, -1, *w.shape[1:]) * groups).view_as(w)
        else:
            w = w * factor.view(-1, *[1] * (w.dim() - 1))
        bias = None if bias is None else bias * factor
    if offset is not None:
        bias = offset if bias is None else bias + offset
    return set_parameters(copy_layer(layer), w, bias, layer.weight)


def copy_layer(layer: nn.Module) -> nn.Module:
    """A shallow copy whose parameters can be replaced without changing ``layer``."""
    new = copy(layer)
    new._parameters = dict(layer._parameters)
    return new


def conv_norm(conv: nn.Module, norm: nn.Module) -> nn.Module:
    """One layer for both where the norm is a batch norm with running statistics."""
    if isinstance(norm, nn.Identity):
        return conv
    if isinstance(norm, _BatchNorm) and norm.running_mean is not None:
        return affine(conv, *norm_affine(norm))
    return nn.Sequential(conv, norm)


def unit(neuron: nn.Module) -> float:
    """Value of one spike."""
    return 1.0 / getattr(neuron, 'norm', 1) if isinstance(neuron, BaseNeuron) else 1.0


def unit_neuron(neuron: nn.Module) -> nn.Module:
    """The neuron with spikes of 1."""
    if unit(neuron) == 1:
        return neuron
    neuron = copy(neuron)
    neuron.norm = 1
    return neuron


def rescale(layer: nn.Module, in_scale: float) -> nn.Module:
    """A convolution or linear layer, over time or not, on ``in_scale`` times the input."""
    if not isinstance(layer, OverTime):
        return affine(layer, in_scale=in_scale)
    inner = layer.layer
    if isinstance(inner, nn.Sequential):  # a convolution and a norm that stays
        return OverTime(nn.Sequential(affine(inner[0], in_scale=in_scale), *inner[1:]))
    return OverTime(affine(inner, in_scale=in_scale))


def spike_fed(neuron: nn.Module, layer: OverTime, pool: nn.Module | None = None) -> SpikeFed:
    """The neuron with spikes of 1 and the layer that reads them, through a pool or directly."""
    return SpikeFed(unit_neuron(neuron), rescale(layer, unit(neuron)), pool)


def fold_scale(neuron: nn.Module, spike: float, scale: float, dtype: torch.dtype) -> tuple[nn.Module, float]:
    """The neuron on whole numbers y that does what ``neuron`` does on y * spike * scale, and the scale that is left."""
    if spike * scale == 1:
        return unit_neuron(neuron), 1.0
    if spike * scale <= 0:  # a learned scale: nothing that can be a threshold
        return unit_neuron(neuron), spike * scale
    if type(neuron) is SFA:
        thresholds = []
        for k in range(1, neuron.levels + 1):
            near = int((k - 0.5) / (spike * scale))
            y = torch.arange(max(near - 2, 0), near + 4, dtype=dtype)
            # with the network's own arithmetic, so that halves are rounded alike
            thresholds.append(y[sfa(y * spike * scale, neuron.levels, 1, neuron.rounding) >= k].min())
        return ThresholdSFA(torch.stack(thresholds)), 1.0
    if isinstance(neuron, (LIF, PLIF, IF)) and neuron.v_reset == 0:
        # charge and decay are linear: a scaled input and a scaled threshold give the same spikes
        neuron = copy(neuron)
        neuron.v_threshold = neuron.v_threshold / (spike * scale)
        return neuron, 1.0
    return unit_neuron(neuron), spike * scale


def mean_of(a: nn.Linear, b: nn.Linear) -> nn.Linear:
    """The linear layer whose output is the mean of those of two."""
    weight = (a.weight.double() + b.weight.double()) / 2
    return set_parameters(copy_layer(a), weight, (a.bias.double() + b.bias.double()) / 2, a.weight)
