"""Spiking self-attention: what the published variants share, and what each of them is told by."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmspike.kernels import gpu
from mmspike.kernels.gpu import attention, layers
from mmspike.kernels.products import Linear, Masked, Sums, multiply
from mmspike.kernels.recompute import Signal
from mmspike.models.neurons import build_neuron

from .chain import Chain, Rowed, opens, run, walk, walk_unrolled
from .choice import described, fire, fusable, hooked
from .conv import ConvNorm
from .cuda_merge import Merged, mergeable


def attend(q: Signal, k: Signal, v: Signal, heads: int) -> Signal:
    """Attention without softmax, q (k^T v) for every head, linear in the number of tokens, in float32 at least.

    Args:
        q, k: [T, B, C, H, W]; queries may be at other places than keys and values.
        v: [T, B, C_v, H, W].
        heads: Number of heads; channels are dealt out to them in order.

    Returns:
        [T, B, C_v, H, W], of the size of q.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import Signal, attend
        >>> q, k, v = (Signal(torch.ones(1, 1, 4, 3, 3)) for _ in 'qkv')
        >>> attend(q, k, v, heads=2).x.unique()  # 9 tokens by 2 channels of a head
        tensor([18.])
    """
    if _saves(q, k, v) and not gpu.usable(q.x):
        return multiply(Linear(heads), q, k, v)
    # heads are [d, N] here: q (k^T v) is the transpose of (v k^T) q
    xs = (s.x.to(torch.promote_types(s.x.dtype, torch.float32)) for s in (q, k, v))
    qs, ks, vs = (x.unflatten(2, (heads, -1)).flatten(-2) for x in xs)
    with torch.autocast(qs.device.type, enabled=False):  # sums of half precision would not be whole numbers
        return Signal(((vs @ ks.transpose(-2, -1)) @ qs).reshape(*v.x.shape[:3], *q.x.shape[3:]))


def sum_over_tokens(a: Signal, b: Signal) -> Signal:
    """The sums of a * b over all tokens, in float32 at least: [T, B, C, H, W] -> [T, B, C, 1, 1]."""
    if _saves(a, b):
        return multiply(Sums(), a, b)
    return Signal(Sums().forward(a.x, b.x))


def sum_over_channels(a: Signal, heads: int) -> Signal:
    """The sums over the channels of every head: [T, B, C, H, W] -> [T, B, heads, H, W]."""
    # autocast sums in float32; of spikes of so few channels half precision is exact
    return Signal(a.x.unflatten(2, (heads, -1)).sum(3).to(a.x.dtype))


def let_pass(x: Signal, mask: Signal) -> Signal:
    """Spikes [T, B, C, H, W] where those of the mask [T, B, heads, H or 1, W or 1] let the channels of a head pass."""
    return multiply(Masked(), x, mask) if _saves(x, mask) else Signal(Masked().forward(x.x, mask.x))


def typed(spikes: Signal, like: Signal) -> Signal:
    """Spikes of the dtype of others: those on sums in float32 go on in half precision, which holds them exactly."""
    return spikes if spikes.x.dtype == like.x.dtype else Signal(spikes.x.to(like.x.dtype), spikes.divisor)


def _saves(*signals: Signal) -> bool:
    """Factors that are spikes would be saved for the backward pass."""
    return torch.is_grad_enabled() and all(s.divisor is not None for s in signals) and fusable(signals[0].x)


def half_threshold(neuron: dict) -> dict:
    """The config of a neuron with half the threshold, where it has one: that on the sums of an attention.

    Raises:
        ValueError: Half the threshold is not above the membrane at rest: the neuron would fire without input.

    Example:
        >>> from mmspike.models.layers import half_threshold
        >>> half_threshold(dict(type='LIF', v_threshold=1.0))
        {'type': 'LIF', 'v_threshold': 0.5}
    """
    whole = build_neuron(neuron)
    if not hasattr(whole, 'v_threshold'):
        return neuron
    half = 0.5 * whole.v_threshold
    if half <= (getattr(whole, 'v_reset', None) or 0.0):
        raise ValueError(
            f'the neuron on an attention has half the threshold, {half}, which must be above v_reset={whole.v_reset}: '
            f'raise v_threshold or lower v_reset in {dict(neuron)}'
        )
    return {**neuron, 'v_threshold': half}


class SpikeAttention(Rowed, nn.Module):
    """N - q, k, v - :meth:`mix` - projection, without softmax; each of q, k, v is N(convolution and norm).

    A variant says how its convolutions are made, its :attr:`scale` and its :attr:`mask`.

    Args:
        dim: Channels, a multiple of ``num_heads``.
        num_heads: Attention heads.
        conv: Makes the convolution with norm of 'q', 'k', 'v' or 'proj'.
        neuron: Neuron config.
        attn_neuron: That of the neuron on the products, by default the same.
        fires_last: The first neuron stands behind the projection and not before q, k and v: spikes in, spikes out.

    Shape:
        [T, B, C, H, W] in and out, membranes.

    Raises:
        ValueError: ``dim`` is not a multiple of ``num_heads``.

    Example:
        >>> import torch
        >>> from mmspike.models.layers import ConvNorm, SpikeAttention
        >>> attention = SpikeAttention(8, 2, lambda which: ConvNorm(8, 8), dict(type='LIF'))
        >>> attention(torch.randn(4, 2, 8, 10, 10)).shape
        torch.Size([4, 2, 8, 10, 10])
    """

    takes_time = True
    #: of the sums q (k^T v)
    scale: float | Tensor = 1.0
    #: '': q (k^T v) of every head. 'q' or 'v': of these spikes pass those of channels where the product of the other two,
    #: summed over all tokens, fires. 'k': of these pass those of tokens where the sum of q over the channels of a head fires;
    #: there is no v
    mask = ''

    def __init__(
        self,
        dim: int,
        num_heads: int,
        conv: Callable[[str], nn.Module],
        neuron: dict,
        attn_neuron: dict | None = None,
        fires_last: bool = False,
    ) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'attention width {dim} must be a multiple of num_heads={num_heads}')
        self.num_heads = num_heads
        self.neuron = None if fires_last else build_neuron(neuron)
        self.q_conv = conv('q')
        self.q_neuron = build_neuron(neuron)
        self.k_conv = conv('k')
        self.k_neuron = build_neuron(neuron)
        self.v_conv = None if self.mask == 'k' else conv('v')
        self.v_neuron = None if self.mask == 'k' else build_neuron(neuron)
        self.attn_neuron = build_neuron(attn_neuron or neuron)
        self.proj_conv = conv('proj')
        self.proj_neuron = build_neuron(neuron) if fires_last else None

    @property
    def pairs_tokens(self) -> bool:
        """True where q k^T is computed, which :mod:`mmspike.analysis` can show."""
        return not self.mask

    def mix(self, q: Signal, k: Signal, v: Signal | None) -> Signal:
        """The input of the projection, [T, B, C_v, H, W], from the spikes q, k [T, B, C, H, W] and v [T, B, C_v, H, W]."""
        if v is None:
            return let_pass(k, fire(self.attn_neuron, sum_over_channels(q, self.num_heads)))
        if not self.mask:
            mixed = self._mix_on_cuda(q, k, v)
            if mixed is not None:
                return mixed
            return typed(fire(self.attn_neuron, attend(q, k, v, self.num_heads), self.scale, keep=True), q)
        a, b, masked = (q, k, v) if self.mask == 'v' else (k, v, q)
        return let_pass(masked, typed(fire(self.attn_neuron, sum_over_tokens(a, b)), masked))

    def _mix_on_cuda(self, q: Signal, k: Signal, v: Signal) -> Signal | None:
        if not (gpu.usable(q.x) and fusable(q.x, self.attn_neuron) and isinstance(self.scale, float)):
            return None
        known, widths = described(self.attn_neuron, q.x.shape[0]), (self.num_heads, q.x.shape[2], v.x.shape[2])
        if known is None or not attention.takes_heads(q.x, known, *widths):
            return None
        return attention.attend(known, attention.side_by_side(q, k, v), *widths, self.scale)

    def mergeable_rows(self, x: Tensor) -> list | None:
        """The rows of q, k and v, if one convolution can compute them all of spikes on the device of x [T, B, C, H, W]."""
        neurons = [self.q_neuron, self.k_neuron, self.v_neuron, self.attn_neuron]
        if self.mask or not isinstance(self.scale, float) or not (gpu.usable(x) and fusable(x, *neurons)) or x.dim() != 5:
            return None
        chains = [c for c in (self.q_conv, self.k_conv, self.v_conv) if isinstance(c, Chain) and opens(c, Chain)]
        kinds = [described(n, x.shape[0]) for n in neurons]
        if len(chains) < 3 or len(set(kinds[:3])) > 1 or not layers.takes(kinds[0], x.shape[0]) or kinds[3] is None:
            return None
        rows = [chain.as_row() for chain in chains]
        parts = [row.parts for row in rows]
        listened = any(hooked(chain, *row.below) for chain, row in zip(chains, rows, strict=True))
        return parts if not listened and mergeable(parts) else None

    def _merged_on_cuda(self, s: Signal, merged: Merged) -> Signal | None:
        """The projection's input, of q, k and v from one convolution; None: the kernels do not take them together."""
        known, inner = (described(n, s.x.shape[0]) for n in (self.attn_neuron, self.q_neuron))
        heads, d, dv = self.num_heads, *(len(m.weight) for m in merged.columns[0][1:])
        if known is None or inner is None or isinstance(self.scale, Tensor):  # see mergeable_rows
            return None
        if s.x.numel() <= s.x.shape[2] or not attention.takes_heads(s.x, known, heads, d, dv):
            return None
        return attention.attend(known, merged.run(inner, s), heads, d, dv, self.scale)

    def project_and_mix(self, s: Signal, merged: Merged | None = None) -> Signal:
        """The projection's input from the spikes of the first neuron, of layers that were merged, if they were."""
        mixed = None if merged is None else self._merged_on_cuda(s, merged)
        if mixed is not None:
            return mixed
        q = walk([self.q_conv, self.q_neuron], s, alone=True)
        k = walk([self.k_conv, self.k_neuron], s, alone=True)
        return self.mix(q, k, None if self.v_conv is None else walk([self.v_conv, self.v_neuron], s, alone=True))

    @property
    def _projection(self) -> list[nn.Module]:
        return [self.proj_conv] if self.proj_neuron is None else [self.proj_conv, self.proj_neuron]

    def unrolled(self) -> list[nn.Module | tuple[nn.Module, str]] | None:
        first = [] if self.neuron is None else [self.neuron]
        return [*first, (self, 'attention'), *self._projection] if opens(self, SpikeAttention) else None

    def forward(self, x: Tensor) -> Tensor:
        done = walk_unrolled(self, x)
        if done is not None:
            return done
        s = Signal(x) if self.neuron is None else fire(self.neuron, Signal(x))
        return run(self._projection, self.project_and_mix(s))


class PointwiseAttention(SpikeAttention):
    """With 1x1 convolutions and norms, a bias in the projection's, and half the threshold on the sums.

    Args:
        dim: Channels, a multiple of ``num_heads``.
        num_heads: Attention heads.
        neuron: Neuron config; the neuron on the sums has half its threshold.
        norm_cfg: Norm config.
    """

    #: see :class:`SpikeAttention`
    fires_last = False

    def __init__(self, dim: int, num_heads: int, neuron: dict, norm_cfg: dict) -> None:
        def conv(name: str) -> nn.Module:
            return ConvNorm(dim, dim, bias=name == 'proj', norm_cfg=norm_cfg)

        super().__init__(dim, num_heads, conv, neuron, half_threshold(neuron), self.fires_last)
