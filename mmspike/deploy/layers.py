"""What a deployed network is made of besides its neurons: linear maps over time, residual sums and attention on counts.

In a deployed network a neuron sends whole counts 0 to D. Expanded, it sends D binary steps instead, [D * T, B, ...] with the
level outermost, and the linear map that reads them adds the steps up. Both forms go through the same modules.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmspike.models.layers import fold, unfold
from mmspike.models.neurons import BaseNeuron


class OverTime(nn.Module):
    """A layer of [N, ...] on [T, B, ...], at all steps alike.

    Shape:
        [T, B, ...] in and out; from an expanded neuron [D * T, B, ...] in, [T, B, ...] out.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        T = x.shape[0] // getattr(self.layer, 'steps', 1)
        y = self.layer(fold(x))
        return y.unflatten(0, (T, y.shape[0] // T))


class SpikeFed(nn.Module):
    """A neuron and the linear map that reads it, through a pool of its spikes or directly.

    Shape:
        [T, B, ...] membranes in and out.
    """

    def __init__(self, neuron: nn.Module, layer: OverTime, pool: nn.Module | None = None) -> None:
        super().__init__()
        self.neuron = neuron
        self.pool = pool
        self.linear = layer

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.neuron(x)
        return self.linear(spikes if self.pool is None else self.pool(spikes))


class SumPool(nn.Module):
    """Sums over windows of spikes: an average pool whose division is elsewhere.

    Args:
        kernel_size, stride, padding: Of the windows.

    Shape:
        [T, B, C, H, W] -> [T, B, C, H', W'].
    """

    def __init__(self, kernel_size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.padding = kernel_size, stride, padding
        self.window = kernel_size**2

    def forward(self, x: Tensor) -> Tensor:
        y = F.avg_pool2d(fold(x), self.kernel_size, self.stride, self.padding, divisor_override=1)
        return unfold(y, x.shape[0])

    def extra_repr(self) -> str:
        return f'kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}'


class Residual(nn.Module):
    """x + branch(x) for one branch after the other.

    Shape:
        [T, B, C, H, W] membranes in and out.
    """

    def __init__(self, *branches: nn.Module) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        for branch in self.branches:
            x = x + branch(x)
        return x


class FusedAttention(nn.Module):
    """Attention without softmax on spike counts; the scale is part of the neuron behind it.

    Expanded, q, k and v come as binary steps and each product is one of binary matrices, summed over the steps of both.

    Args:
        neuron, q_neuron, k_neuron, v_neuron, attn_neuron: Neurons with unit spikes; an identity as the first one where the
            convolutions read sums of spikes.
        q_conv, k_conv, v_conv, proj_conv: Linear maps.
        num_heads: Heads.
        mask: '' for q (k^T v). 'v' and 'q' are attention per channel: of these spikes pass those where the product of the
            other two, summed over all tokens, fires (SDSA-1, and that of Spike-driven Transformer V1).
        scale: What could not be folded into ``attn_neuron``; 1 as a rule.

    Shape:
        [T, B, C, H, W] membranes in and out.
    """

    def __init__(
        self,
        neuron: nn.Module,
        q_conv: OverTime,
        q_neuron: nn.Module,
        k_conv: OverTime,
        k_neuron: nn.Module,
        v_conv: OverTime,
        v_neuron: nn.Module,
        attn_neuron: nn.Module,
        proj_conv: OverTime,
        num_heads: int,
        mask: str = '',
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.neuron = neuron
        self.q_conv, self.k_conv, self.v_conv, self.proj_conv = q_conv, k_conv, v_conv, proj_conv
        self.q_neuron, self.k_neuron, self.v_neuron, self.attn_neuron = q_neuron, k_neuron, v_neuron, attn_neuron
        self.num_heads = num_heads
        self.mask = mask
        self.scale = scale
        self.exact = False

    def forward(self, x: Tensor) -> Tensor:
        T, B, C, H, W = x.shape
        s = self.neuron(x)

        def heads(spikes: Tensor) -> Tensor:  # [D, T, B, heads, d, N]
            dim = spikes.shape[2] // self.num_heads
            spikes = spikes.double() if self.exact else spikes
            return spikes.reshape(spikes.shape[0] // T, T, B, self.num_heads, dim, -1)

        q = heads(self.q_neuron(self.q_conv(s)))
        k = heads(self.k_neuron(self.k_conv(s)))
        v = heads(self.v_neuron(self.v_conv(s)))
        # every step of one factor meets every step of the other
        if self.mask:
            a, b, masked = (q, k, v) if self.mask == 'v' else (k, v, q)
            y = (a.unsqueeze(1) * b).sum((0, 1)).sum(-1)
            fired = heads(self._fire(y.reshape(T, B, -1, 1, 1).to(x.dtype)))
            y = (masked.unsqueeze(1) * fired).flatten(0, 2).to(x.dtype).reshape(-1, B, C, H, W)
        else:
            kv = (v.unsqueeze(1) @ k.transpose(-2, -1)).sum((0, 1))
            y = self._fire((kv @ q).sum(0).to(x.dtype).reshape(T, B, -1, H, W))
        return self.proj_conv(y)

    def _fire(self, y: Tensor) -> Tensor:
        return self.attn_neuron(y if self.scale == 1 else y * self.scale)

    @property
    def pairs_tokens(self) -> bool:
        return not self.mask

    def get_extra_state(self) -> Tensor:
        """Scale and threshold (0: the neuron has none), which are learned in SDSA-4."""
        neuron = getattr(self.attn_neuron, 'neuron', self.attn_neuron)
        return torch.tensor([self.scale, getattr(neuron, 'v_threshold', 0.0)], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.scale, threshold = state.tolist()
        neuron = getattr(self.attn_neuron, 'neuron', self.attn_neuron)
        if hasattr(neuron, 'v_threshold'):
            neuron.v_threshold = threshold


class FusedAggregation(nn.Module):
    """Spike aggregated self-attention of SAFormer: of the spikes k pass those of tokens where the sum of q fires.

    Args:
        neuron, q_neuron, k_neuron, attn_neuron: Neurons with unit spikes.
        q_conv, k_conv, dwconv: Linear maps.
        out: The neuron on the sum of what passes and the depthwise convolution, and the linear map that reads it.
        num_heads: Heads.
        sum_scale: What could not be folded into ``attn_neuron``; 1 as a rule.
        scale: What a spike that passes adds to the membrane of ``out``; 1 for neurons of one level.

    Shape:
        [T, B, C, H, W] membranes in and out.
    """

    def __init__(
        self,
        neuron: nn.Module,
        q_conv: OverTime,
        q_neuron: nn.Module,
        k_conv: OverTime,
        k_neuron: nn.Module,
        attn_neuron: nn.Module,
        dwconv: OverTime,
        out: SpikeFed,
        num_heads: int,
        sum_scale: float = 1.0,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.neuron, self.attn_neuron = neuron, attn_neuron
        self.q_conv, self.q_neuron, self.k_conv, self.k_neuron = q_conv, q_neuron, k_conv, k_neuron
        self.dwconv, self.out = dwconv, out
        self.num_heads = num_heads
        self.sum_scale = sum_scale
        self.scale = scale

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
        return self.out((y if self.scale == 1 else y * self.scale) + self.dwconv(k))


class FusedDualAttention(nn.Module):
    """Dual spike self-attention of SpikingResformer; the running rates are part of the weights of its convolution.

    Args:
        neuron, attn_neuron: Neurons with unit spikes.
        dual_conv: Convolution over patches that makes y1 and y2 of every head.
        out: The neuron on y2 a, and the linear map that reads it.
        num_heads: Heads.
        patch_size: Side of a patch.

    Shape:
        [T, B, C, H, W] membranes in and out.
    """

    def __init__(
        self, neuron: nn.Module, dual_conv: OverTime, attn_neuron: nn.Module, out: SpikeFed, num_heads: int, patch_size: int
    ) -> None:
        super().__init__()
        self.neuron, self.dual_conv, self.attn_neuron, self.out = neuron, dual_conv, attn_neuron, out
        self.num_heads = num_heads
        self.patch_size = patch_size
        self.largest: tuple[int, int] | None = None

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
        return self.out(z.reshape(T, B, C, H, W))


class ThresholdSFA(BaseNeuron):
    """SFA neuron whose scale is folded into D thresholds: the count is how many of them a whole-number input reaches.

    Args:
        thresholds: D ascending integers.
    """

    leaky = False
    has_memory = False

    def __init__(self, thresholds: Tensor) -> None:
        super().__init__()
        self.levels = len(thresholds)
        self.norm = 1
        self.register_buffer('thresholds', thresholds)

    def step(self, x: Tensor, v: Tensor | None) -> tuple[Tensor, None]:
        counts = torch.zeros_like(x)
        for threshold in self.thresholds.unbind():
            counts = counts + (x >= threshold).to(x.dtype)
        return counts, None

    def extra_repr(self) -> str:
        return f'thresholds={[int(t) for t in self.thresholds]}'


class BinarySteps(BaseNeuron):
    """A neuron of counts 0 to D that sends D binary steps, of which as many fire as the count says.

    Args:
        neuron: A neuron with ``levels`` and unit spikes.

    Shape:
        [T, B, ...] -> [D * T, B, ...], the level outermost.
    """

    def __init__(self, neuron: BaseNeuron) -> None:
        super().__init__()
        self.neuron = neuron
        self.steps = neuron.levels
        self.levels = self.norm = 1
        self.layout = neuron.layout

    def forward(self, x: Tensor) -> Tensor:
        counts = self.neuron(x)
        return torch.cat([(counts > d).to(x.dtype) for d in range(self.steps)])

    def extra_repr(self) -> str:
        return f'steps={self.steps}'


def on_grid(x: Tensor, terms: float) -> Tensor:
    """``x`` in float64, rounded so that ``terms`` times its largest element is added up without rounding, in any order."""
    bound = terms * x.abs().max().item() if x.numel() else 0.0
    if bound == 0:
        return x
    grid = 2.0 ** (math.ceil(math.log2(bound)) - 52)
    return (x / grid).round() * grid


class Accumulate(nn.Module):
    """A convolution or linear layer that adds its weights up exactly, whatever the order, and sums over binary steps.

    The sums run in float64, where they are those of a fixed-point accumulator of 53 bits: weights are rounded to multiples of
    2^-53 times the largest possible sum, so that no addition rounds. That is below the rounding of float32 weights by far.

    Args:
        layer: ``nn.Conv2d``, ``nn.ConvTranspose2d`` or ``nn.Linear``.
        steps: Binary steps D that stand outermost in the first dimension of the input.
        largest: Largest count that the input may have in all steps together.

    Shape:
        [D * N, ...] -> [N, ...].
    """

    def __init__(self, layer: nn.Module, steps: int, largest: int) -> None:
        super().__init__()
        self.layer = layer
        self.steps = steps
        with torch.no_grad():
            w = layer.weight.double()
            # transposed convolutions have their output channels second, within groups
            dims = (0, 2, 3) if isinstance(layer, nn.ConvTranspose2d) else tuple(range(1, w.dim()))
            terms = w.abs().sum(dims).max() / w.abs().max() if w.any() else 1.0
            layer.weight.copy_(on_grid(w, largest * float(terms)))

    def forward(self, x: Tensor) -> Tensor:
        m, w = self.layer, self.layer.weight.double()
        if isinstance(m, nn.Linear):
            y = F.linear(x.double(), w)
        elif isinstance(m, nn.ConvTranspose2d):
            y = F.conv_transpose2d(x.double(), w, None, m.stride, m.padding, m.output_padding, m.groups, m.dilation)
        else:
            y = F.conv2d(x.double(), w, None, m.stride, m.padding, m.dilation, m.groups)
        if self.steps > 1:
            y = y.unflatten(0, (self.steps, y.shape[0] // self.steps)).sum(0)
        if m.bias is not None:
            y = y + (m.bias.double() if isinstance(m, nn.Linear) else m.bias.double().view(-1, 1, 1))
        return y.to(x.dtype)

    def extra_repr(self) -> str:
        return f'steps={self.steps}'
