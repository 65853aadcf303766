"""Attention on whole counts of spikes: scales are part of thresholds and weights, and expanded, products are binary.

Each class takes the place of a trained attention, whose neurons and weights it goes on with under their names.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmspike.models.backbones.saformer import SpikeAggregatedSelfAttention
from mmspike.models.backbones.spiking_resformer import DualSpikeSelfAttention
from mmspike.models.layers import SpikeAttention
from mmspike.models.neurons import BaseNeuron

from .folding import affine, fold_scale, scale_input, unit, unit_neuron
from .layers import on_grid
from .rows import LINEAR, places


def _take(new: nn.Module, trained: nn.Module, *names: str) -> None:
    """Give children of ``trained`` to ``new``, neurons with spikes of 1; one that is None stays None."""
    for name in names:
        child = getattr(trained, name)
        new.add_module(name, unit_neuron(child) if isinstance(child, BaseNeuron) else child)


def _by_steps(product: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
    """Every step [T, B, …] of one factor [D, T, B, …] with every step of the other one; counts are one step each."""
    return product(a, b) if len(a) == len(b) == 1 else product(a.unsqueeze(1), b).flatten(0, 1)


def _summed(steps: Tensor) -> Tensor:
    return steps[0] if len(steps) == 1 else steps.sum(0)


class FusedAttention(nn.Module):
    """Attention without softmax on spike counts; the scale is part of the neuron behind it.

    Expanded, q, k and v come as binary steps and each product is one of binary matrices, summed over the steps of both.

    Args:
        trained: Attention whose convolutions are folded already.

    Attributes:
        scale: What could not be folded into ``attn_neuron``; 1 as a rule.

    Shape:
        [T, B, C, H, W] in and out.
    """

    takes_time = True

    def __init__(self, trained: SpikeAttention) -> None:
        super().__init__()
        self.num_heads, self.mask = trained.num_heads, trained.mask
        self.exact = False
        _take(self, trained, 'neuron', 'q_conv', 'q_neuron', 'k_conv', 'k_neuron', 'v_conv', 'v_neuron', 'proj_conv')
        self.proj_neuron = trained.proj_neuron  # what it sends goes into a shortcut, and keeps its unit
        factors = [name for name in ('q', 'k', 'v') if getattr(trained, f'{name}_neuron') is not None]
        units = {name: unit(getattr(trained, f'{name}_neuron')) for name in (*factors, 'attn')}
        masked = units.pop(self.mask) if self.mask else 1.0
        if trained.neuron is not None:
            for name in factors:
                scale_input(places(self, (f'{name}_conv',)), unit(trained.neuron))
        scale_input(places(self, ('proj_conv',)), units.pop('attn') * masked)
        product = math.prod(units.values())
        dtype = next(trained.parameters()).dtype
        for name, parameter in trained._parameters.items():  # a learned scale, without rounding on the way
            trained._parameters[name] = None if parameter is None else nn.Parameter(parameter.double())
        scale = 1.0 if self.mask else float(trained.scale)
        counted = all(isinstance(getattr(trained, f'{name}_neuron'), BaseNeuron) for name in factors)
        if counted:
            self.attn_neuron, self.scale = fold_scale(trained.attn_neuron, product, scale, dtype)
        else:
            self.attn_neuron, self.scale = unit_neuron(trained.attn_neuron), scale * product

    @property
    def pairs_tokens(self) -> bool:
        return not self.mask

    def forward(self, x: Tensor) -> Tensor:
        s = x if self.neuron is None else self.neuron(x)
        v = None if self.mask == 'k' else self.v_neuron(self.v_conv(s))
        return self.attend(self.q_neuron(self.q_conv(s)), self.k_neuron(self.k_conv(s)), v, x.shape)

    def attend(self, q: Tensor, k: Tensor, v: Tensor | None, shape: torch.Size) -> Tensor:
        """What the spikes of q, k and v [D * T, B, …] give, of the ``shape`` of the membranes that q comes from."""
        T, B, C, H, W = shape

        def heads(spikes: Tensor) -> Tensor:  # [D, T, B, heads, d, N]
            dim = spikes.shape[2] // self.num_heads
            spikes = spikes.double() if self.exact else spikes
            return spikes.reshape(spikes.shape[0] // T, T, B, self.num_heads, dim, -1)

        dtype = q.dtype
        q, k = heads(q), heads(k)
        if v is None:
            y = q.sum(0).sum(3).reshape(T, B, self.num_heads, H, W)
            fired = self._fire(y.to(dtype)).to(k.dtype).reshape(-1, T, B, self.num_heads, 1, H * W)
            return self.proj_conv(_by_steps(torch.mul, k, fired).to(dtype).reshape(-1, B, C, H, W))
        v = heads(v)
        if self.mask:
            a, b, masked = (q, k, v) if self.mask == 'v' else (k, v, q)
            y = _summed(_by_steps(torch.mul, a, b)).sum(-1)
            fired = heads(self._fire(y.reshape(T, B, -1, 1, 1).to(dtype)))
            y = _by_steps(torch.mul, masked, fired).to(dtype).reshape(-1, B, C, H, W)
        else:
            pairs = _summed(_by_steps(torch.matmul, v, k.transpose(-2, -1)))
            y = _summed(_by_steps(torch.matmul, pairs.unsqueeze(0), q))
            y = self._fire(y.to(dtype).reshape(T, B, -1, H, W))
        y = self.proj_conv(y)
        return y if self.proj_neuron is None else self.proj_neuron(y)

    def _fire(self, y: Tensor) -> Tensor:
        return self.attn_neuron(y if self.scale == 1 else y * self.scale)

    def get_extra_state(self) -> Tensor:
        """Scale and threshold (0: the neuron has none), which are learned in SDSA-4."""
        neuron = getattr(self.attn_neuron, 'neuron', self.attn_neuron)
        return torch.tensor([self.scale, getattr(neuron, 'v_threshold', 0.0)], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.scale, threshold = state.tolist()
        neuron = getattr(self.attn_neuron, 'neuron', self.attn_neuron)
        if hasattr(neuron, 'v_threshold'):
            neuron.v_threshold = threshold


class FusedQueryAttention(FusedAttention):
    """Attention of queries on keys of another number, see :class:`mmspike.models.mask_former.QueryAttention`.

    Shape:
        Queries [T, B, C, Q, 1], x [T, B, C, H, W], places [C, H, W] and levels [C, 1, 1] -> [T, B, C, Q, 1]; membranes.
    """

    pairs_tokens = False

    def forward(  # type: ignore[override]
        self, query: Tensor, x: Tensor, place: Tensor, level: Tensor | float = 0.0
    ) -> Tensor:
        q, k, v = (self.neuron(m) for m in (query, x + level + place, x + level))
        spikes = self.q_neuron(self.q_conv(q)), self.k_neuron(self.k_conv(k)), self.v_neuron(self.v_conv(v))
        return self.attend(*spikes, query.shape)


class FusedAggregation(nn.Module):
    """Spike aggregated self-attention of SAFormer: of the spikes k pass those of tokens where the sum of q fires.

    Args:
        trained: Attention whose convolutions are folded already.

    Attributes:
        sum_scale: What could not be folded into ``attn_neuron``; 1 as a rule.
        scale: What a spike that passes adds to the membrane of ``out_neuron``; 1 for neurons of one level.

    Shape:
        [T, B, C, H, W] membranes in and out.
    """

    takes_time = True
    rows = (('out_neuron', 'proj_conv'),)

    def __init__(self, trained: SpikeAggregatedSelfAttention) -> None:
        super().__init__()
        self.num_heads = trained.num_heads
        _take(self, trained, 'neuron', 'q_conv', 'q_neuron', 'k_conv', 'k_neuron', 'dwconv', 'out_neuron', 'proj_conv')
        s, q, k, attn, out = (unit(getattr(trained, f'{name}neuron')) for name in ('', 'q_', 'k_', 'attn_', 'out_'))
        for name, spike in (('q_conv', s), ('k_conv', s), ('dwconv', k), ('proj_conv', out)):
            scale_input(places(self, (name,)), spike)
        self.attn_neuron, self.sum_scale = fold_scale(trained.attn_neuron, q, 1.0, next(trained.parameters()).dtype)
        self.scale = attn * k

    def forward(self, x: Tensor) -> Tensor:
        T, B, C, H, W = x.shape
        s = self.neuron(x)

        def heads(spikes: Tensor) -> Tensor:  # [D, T, B, heads, d, H, W]
            return spikes.reshape(-1, T, B, self.num_heads, spikes.shape[2] // self.num_heads, H, W)

        q = heads(self.q_neuron(self.q_conv(s)))
        k = self.k_neuron(self.k_conv(s))
        y = q.sum(0).sum(3)
        passes = self.attn_neuron(y if self.sum_scale == 1 else y * self.sum_scale)
        # sums of whole numbers, exact in any order
        y = heads(k).sum(0) * passes.unflatten(0, (passes.shape[0] // T, T)).sum(0).unsqueeze(3)
        y = y.reshape(T, B, C, H, W)
        return self.proj_conv(self.out_neuron((y if self.scale == 1 else y * self.scale) + self.dwconv(k)))


class FusedDualAttention(nn.Module):
    """Dual spike self-attention of SpikingResformer; the running rates are part of the weights of its convolution.

    Args:
        trained: Attention whose convolutions are folded already.

    Shape:
        [T, B, C, H, W] membranes in and out.

    Raises:
        ValueError: A norm that is not a batch norm stands behind the convolution over patches.
    """

    takes_time = True
    rows = (('out_neuron', 'proj_conv'),)

    def __init__(self, trained: DualSpikeSelfAttention) -> None:
        super().__init__()
        self.num_heads, self.patch_size = trained.num_heads, trained.patch_size
        self.largest: tuple[int, int] | None = None
        _take(self, trained, 'neuron', 'dual_conv', 'attn_neuron', 'out_neuron', 'proj_conv')
        dual = places(self, ('dual_conv',))
        if len(dual) > 1 or not isinstance(dual[0].module, LINEAR):
            raise ValueError(f'DualSpikeSelfAttention is folded with batch norms only, got {dual[-1].module}')
        s, attn, out = (unit(getattr(trained, f'{name}neuron')) for name in ('', 'attn_', 'out_'))
        running = trained.input_rate.running_rate, trained.attn_rate.running_rate
        rates = [torch.where(r > 0, r, 1.0).double().flatten() for r in running]
        conv = dual[0].module
        d = conv.out_channels // (2 * self.num_heads)
        # y1 meets spikes of s, y2 spikes of the attention
        factors = s * (rates[0] * d).rsqrt(), attn * rates[1].rsqrt()
        factor = torch.stack(factors, 1).repeat_interleave(d, 1).flatten()
        dual[0].put(affine(conv, factor, in_scale=s, like=conv.weight))
        scale_input(places(self, ('proj_conv',)), out)

    def forward(self, x: Tensor) -> Tensor:
        T, B, C, H, W = x.shape
        d = C // self.num_heads
        s = self.neuron(x)
        y = self.dual_conv(F.pad(s, (0, -W % self.patch_size, 0, -H % self.patch_size)))
        y1, y2 = y.reshape(T, B, self.num_heads, 2 * d, -1).split(d, dim=3)
        # the size of the image is known only now
        y2 = y2 * y2.shape[-1] ** -0.5
        s = s.reshape(-1, T, B, self.num_heads, d, H * W)
        if self.largest:  # as Accumulate: no addition rounds, whatever the order
            y1, s = on_grid(y1.double(), self.largest[0] * d), s.double()
            y2 = on_grid(y2.double(), self.largest[1] * y2.shape[-1])
        a = self.attn_neuron((y1.transpose(-2, -1) @ s).sum(0).to(x.dtype))
        a = a.unflatten(0, (a.shape[0] // T, T)).to(y2.dtype)
        z = (y2 @ a).sum(0).to(x.dtype)
        return self.proj_conv(self.out_neuron(z.reshape(T, B, C, H, W)))
