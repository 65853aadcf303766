"""Spiking self-attention: what the published variants share, and what each of them is told by."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from mmspike.models.neurons import build_neuron

from .chain import run
from .fused import count_norm, fusable, spike_attention


def attend(q: Tensor, k: Tensor, v: Tensor, heads: int, *neurons: nn.Module) -> Tensor:
    """Attention without softmax, q (k^T v) for every head, linear in the number of tokens.

    Args:
        q, k: [T, B, C, H, W], spikes.
        v: [T, B, C_v, H, W], spikes.
        heads: Number of heads; channels are dealt out to them in order.
        neurons: The neurons of q, k and v, which are of one kind.

    Returns:
        [T, B, C_v, H, W].
    """
    norm = count_norm(neurons[0])
    if norm is not None and torch.is_grad_enabled() and fusable(q, *neurons):
        return spike_attention(q, k, v, heads, norm)
    # heads are [d, N] here: q (k^T v) is the transpose of (v k^T) q
    q, k, heads_v = (x.unflatten(2, (heads, -1)).flatten(-2) for x in (q, k, v))
    return ((heads_v @ k.transpose(-2, -1)) @ q).reshape(v.shape)


def half_threshold(neuron: dict) -> dict:
    """The config of a neuron with half the threshold, where it has one: that on the sums of an attention.

    Raises:
        ValueError: Half the threshold is not above the membrane at rest: the neuron would fire without input.
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


class SpikeAttention(nn.Module):
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
        ValueError: ``dim`` is no multiple of ``num_heads``.
    """

    takes_time = True
    #: of the sums q (k^T v)
    scale: float | Tensor = 1.0
    #: '': q (k^T v) of every head. 'q' or 'v': of these spikes pass those of channels where the product of the other two,
    #: summed over all tokens, fires
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
        self.v_conv = conv('v')
        self.v_neuron = build_neuron(neuron)
        self.attn_neuron = build_neuron(attn_neuron or neuron)
        self.proj_conv = conv('proj')
        self.proj_neuron = build_neuron(neuron) if fires_last else None

    @property
    def pairs_tokens(self) -> bool:
        """True where q k^T is computed, which :mod:`mmspike.analysis` can show."""
        return not self.mask

    def mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What the projection reads, [T, B, C_v, H, W], of the spikes q, k [T, B, C, H, W] and v [T, B, C_v, H, W]."""
        if self.mask:
            a, b, masked = (q, k, v) if self.mask == 'v' else (k, v, q)
            return masked * self.attn_neuron((a * b).sum((3, 4), keepdim=True))
        y = attend(q, k, v, self.num_heads, self.q_neuron, self.k_neuron, self.v_neuron)
        return self.attn_neuron(y * self.scale)

    def forward(self, x: Tensor) -> Tensor:
        s = x if self.neuron is None else self.neuron(x)
        q = run([self.q_conv, self.q_neuron], s, self.neuron)
        k = run([self.k_conv, self.k_neuron], s, self.neuron)
        v = run([self.v_conv, self.v_neuron], s, self.neuron)
        last = [self.proj_conv] if self.proj_neuron is None else [self.proj_conv, self.proj_neuron]
        # products of spikes of two neurons, with a mask, are no spikes of either
        return run(last, self.mix(q, k, v), None if self.mask else self.attn_neuron)
