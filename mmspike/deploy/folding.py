"""The arithmetic of folding: norms and factors into weights, values of spikes into what reads them, scales into thresholds."""

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmspike.models.layers import LayerScale, NormFirstRepConv, RepConv
from mmspike.models.neurons import IF, LIF, PLIF, SFA, BaseNeuron, sfa

from .layers import ThresholdSFA
from .rows import LINEAR, Place


def merge_repconv(module: RepConv | NormFirstRepConv) -> nn.Conv2d:
    """A RepConv as one 3x3 convolution with zero padding and bias in float64, which equals it at the borders, too."""
    a1, b1 = norm_affine(module.norm1)
    if isinstance(module, NormFirstRepConv):
        w1, dw = module.conv1.weight.double().flatten(1), module.dwconv.weight.double().squeeze(1)
        weight = torch.einsum('ohw,oi,i->oihw', dw, w1, a1)
        return set_parameters(nn.Conv2d(*weight.shape[1::-1], 3, padding=1), weight, dw.sum((1, 2)) * (w1 @ b1), weight)
    a2, b2 = norm_affine(module.norm2)
    w1, w2 = module.conv1.weight.double().flatten(1), module.conv2.weight.double().flatten(1)
    dw = module.dwconv.weight.double().squeeze(1)
    weight = torch.einsum('o,om,mhw,m,mi->oihw', a2, w2, dw, a1, w1)
    bias = a2 * (w2 @ (b1 * dw.sum((1, 2)))) + b2
    return set_parameters(nn.Conv2d(*weight.shape[1::-1], 3, padding=1), weight, bias, weight)


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


def affine(
    layer: nn.Module,
    factor: Tensor | None = None,
    offset: Tensor | None = None,
    in_scale: float = 1.0,
    like: Tensor | None = None,
) -> nn.Module:
    """A copy of a convolution or linear layer on ``in_scale`` times the input, its output times ``factor`` plus ``offset``.

    Args:
        like: Of the dtype of the new parameters, by default float64.
    """
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
    return set_parameters(copy_layer(layer), w, bias, w if like is None else like)


def joined(layer: nn.Module, then: nn.Module) -> nn.Module | None:
    """A linear map in float64 and the module behind it as one map, or None where that is none."""
    if isinstance(then, _BatchNorm) and then.running_mean is not None:
        return affine(layer, *norm_affine(then))
    if isinstance(then, LayerScale):
        return affine(layer, then.scale.double())
    if isinstance(layer, nn.Conv2d) and is_pointwise(layer) and is_pointwise(then):
        weight = (then.weight.double().flatten(1) @ layer.weight.flatten(1))[..., None, None]
        bias = _bias_through(layer, then)
        return set_parameters(nn.Conv2d(*weight.shape[1::-1], 1), weight, bias, weight)
    return None


def is_pointwise(module: nn.Module) -> bool:
    return isinstance(module, nn.Conv2d) and (module.kernel_size, module.stride, module.padding, module.groups) == (
        (1, 1),
        (1, 1),
        (0, 0),
        1,
    )


def merge_depthwise(depthwise: nn.Module, pointwise: nn.Module) -> nn.Conv2d | None:
    """A depthwise and a pointwise convolution as one dense convolution, or None where they are something else."""
    if not (isinstance(depthwise, nn.Conv2d) and is_pointwise(pointwise)):
        return None
    if not depthwise.groups == depthwise.in_channels == depthwise.out_channels:
        return None
    weight = pointwise.weight.double() * depthwise.weight.double().squeeze(1)
    dw = depthwise
    merged = nn.Conv2d(dw.in_channels, pointwise.out_channels, dw.kernel_size, dw.stride, dw.padding, dw.dilation)
    return set_parameters(merged, weight, _bias_through(dw, pointwise), dw.weight)


def _bias_through(layer: nn.Conv2d, pointwise: nn.Conv2d) -> Tensor | None:
    bias = None if pointwise.bias is None else pointwise.bias.double()
    if layer.bias is not None:
        bias = pointwise.weight.double().flatten(1) @ layer.bias.double() + (0 if bias is None else bias)
    return bias


def copy_layer(layer: nn.Module) -> nn.Module:
    """A shallow copy whose parameters can be replaced without changing ``layer``."""
    new = copy(layer)
    new._parameters = dict(layer._parameters)
    return new


def unit(neuron: nn.Module) -> float:
    """Value of one spike."""
    return 1.0 / getattr(neuron, 'divisor', 1) if isinstance(neuron, BaseNeuron) else 1.0


def unit_neuron(neuron: nn.Module) -> nn.Module:
    """The neuron with spikes of 1."""
    if unit(neuron) == 1:
        return neuron
    neuron = copy(neuron)
    neuron.divisor = 1
    return neuron


def scale_input(row: Sequence[Place], scale: float) -> None:
    """Let a row read ``scale`` times its input, in place.

    Raises:
        ValueError: It does not begin with a linear map.
    """
    if scale != 1:
        first = row[0]
        if not isinstance(first.module, LINEAR):
            raise ValueError(f'{first.module} reads spikes of an attention and is no linear map: it cannot be folded')
        first.put(affine(first.module, in_scale=scale, like=first.module.weight))


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
