"""E-SpikeFormer, the large models (Spike-driven Transformer V3, TPAMI 2025, arXiv 2411.16061), which are pretrained masked."""

from collections.abc import Sequence
from itertools import accumulate
from operator import mul

import numpy as np
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmspike.models.layers import (
    MLP,
    ConvNorm,
    Downsample,
    DropPath,
    attend,
    build_norm,
    chain,
    fold,
    mean_time,
    unfold,
)
from mmspike.models.neurons import SFA, build_neuron
from mmspike.registry import MODELS

from .base import SpikingBackbone, resolve_arch
from .e_spikeformer import LayerScale


def enlarge(visible: Tensor, height: int, width: int) -> Tensor:
    """A mask [B, h, w] at a size that is a multiple of its own, [B, height, width]."""
    h, w = visible.shape[-2:]
    return visible.repeat_interleave(height // h, -2).repeat_interleave(width // w, -1)


class SparseConvNorm(ConvNorm):
    """:class:`ConvNorm` that, given a mask, computes visible positions only: the hidden ones are 0 and enter no statistics.

    The sparse convolution and batch norm of masked autoencoders on convolutional networks (SparK, arXiv 2301.03580),
    computed densely. The mask is an argument of each call, so nothing is left behind by one.

    Shape:
        [T, B, C, H, W] -> [T, B, C', H', W']. The mask is [B, h, w], True where visible; H' and W' are multiples of h and w.
    """

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        if visible is None:
            return super().forward(x)
        y = self.conv(fold(x)).permute(0, 2, 3, 1)
        seen = enlarge(visible, *y.shape[1:3]).repeat(x.shape[0], 1, 1)
        values = self.norm(y[seen][..., None, None]).flatten(1)
        y = values.new_zeros(y.shape).masked_scatter(seen.unsqueeze(-1), values)
        return unfold(y.permute(0, 3, 1, 2), x.shape[0])


class SparseDownsample(Downsample):
    """:class:`Downsample` that takes a mask, see :class:`SparseConvNorm`."""

    def __init__(self, in_dim: int, dim: int, stride: int, neuron: dict | None, norm_cfg: dict) -> None:
        super().__init__(in_dim, dim, stride, neuron, norm_cfg)
        self.conv = SparseConvNorm(in_dim, dim, 7 if neuron is None else 3, stride, bias=True, norm_cfg=norm_cfg)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        if visible is None:
            return chain(x, self.neuron, self.conv.conv, self.conv.norm)
        return self.conv(self.neuron(x), visible)


class SparseConvBlock(nn.Module):
    """x + (N - 3x3 - BN - N - 3x3 - BN)(x) with four times the width inside; takes a mask, see :class:`SparseConvNorm`.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        self.neuron1 = build_neuron(neuron)
        self.conv1 = SparseConvNorm(dim, 4 * dim, 3, bias=True, norm_cfg=norm_cfg)
        self.neuron2 = build_neuron(neuron)
        self.conv2 = SparseConvNorm(4 * dim, dim, 3, bias=True, norm_cfg=norm_cfg)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        if visible is None:
            convs = [m for conv in (self.conv1, self.conv2) for m in (conv.conv, conv.norm)]
            return x + chain(x, self.neuron1, *convs[:2], self.neuron2, *convs[2:])
        return x + self.conv2(self.neuron2(self.conv1(self.neuron1(x), visible)), visible)


class RepPointwise(nn.Module):
    """1x1 - BN - 1x1 - BN and by choice another BN: linear from end to end, so that it merges into one 1x1 convolution.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, hidden: int, norm_cfg: dict, last_norm: bool) -> None:
        super().__init__()
        self.conv1 = ConvNorm(dim, hidden, norm_cfg=norm_cfg)
        self.conv2 = ConvNorm(hidden, dim, norm_cfg=norm_cfg)
        self.norm = build_norm(norm_cfg, dim) if last_norm else nn.Identity()
        if not isinstance(self.conv1.norm, _BatchNorm):
            raise ValueError(f'ESpikeFormerLarge needs a batch norm (BN, SyncBN), whose weights can be merged, got {norm_cfg}')

    def parts(self) -> tuple[nn.Module, ...]:
        """What :func:`mmspike.models.layers.chain` takes for it."""
        return self.conv1, self.conv2, self.norm

    def forward(self, x: Tensor) -> Tensor:
        return chain(x, *self.parts())


class RepSpikeSelfAttention(nn.Module):
    """N - q, k, v - attention without softmax - N - Rep - BN; each of q, k, v is N(BN(Rep)), Rep one and a half times as wide.

    y = N(q (k^T v) * 0.125), whatever the width of the heads; its cost is O(N) in the number of tokens. Where that N is an
    :class:`SFA`, it rounds halves up as the published code does: one in some thousand of these sums is a half.

    Args:
        dim: Channels, a multiple of ``num_heads``.
        num_heads: Attention heads.
        neuron: Neuron config.
        norm_cfg: Norm config.

    Shape:
        [T, B, C, H, W] in and out.
    """

    scale = 0.125
    pairs_tokens = True

    def __init__(self, dim: int, num_heads: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'attention width {dim} must be a multiple of num_heads={num_heads}')
        self.num_heads = num_heads
        hidden = int(1.5 * dim)
        self.neuron = build_neuron(neuron)
        self.q_conv = RepPointwise(dim, hidden, norm_cfg, last_norm=True)
        self.q_neuron = build_neuron(neuron)
        self.k_conv = RepPointwise(dim, hidden, norm_cfg, last_norm=True)
        self.k_neuron = build_neuron(neuron)
        self.v_conv = RepPointwise(dim, hidden, norm_cfg, last_norm=True)
        self.v_neuron = build_neuron(neuron)
        self.attn_neuron = build_neuron(neuron)
        if isinstance(self.attn_neuron, SFA):
            self.attn_neuron.rounding = 'up'
        self.proj_conv = RepPointwise(dim, hidden, norm_cfg, last_norm=True)

    def forward(self, x: Tensor) -> Tensor:
        s = self.neuron(x)
        q, k, v = (
            chain(s, *conv.parts(), neuron, spikes_of=self.neuron)
            for conv, neuron in (
                (self.q_conv, self.q_neuron),
                (self.k_conv, self.k_neuron),
                (self.v_conv, self.v_neuron),
            )
        )
        y = self.attn_neuron(attend(q, k, v, self.num_heads, self.q_neuron, self.k_neuron, self.v_neuron) * self.scale)
        return chain(y, *self.proj_conv.parts(), spikes_of=self.attn_neuron)


class LargeTransformerBlock(nn.Module):
    """By choice x + Rep(N(x)) first, then x + attention(x), then x + MLP(x), the two with layer scale and drop path.

    Args:
        rep_conv: Whether the block begins with x + Rep(N(x)), as in the model of 83 M.
        layer_scale: Initial layer scale of the other two branches; None: no layer scale.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        rep_conv: bool,
        layer_scale: float | None,
        neuron: dict,
        norm_cfg: dict,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.rep_neuron = build_neuron(neuron) if rep_conv else None
        self.rep_conv = RepPointwise(dim, dim, norm_cfg, last_norm=False) if rep_conv else None
        self.attn = RepSpikeSelfAttention(dim, num_heads, neuron, norm_cfg)
        self.mlp = MLP(dim, mlp_ratio, neuron, norm_cfg)
        scales = [nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale) for _ in range(2)]
        self.layer_scale1, self.layer_scale2 = scales
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        if self.rep_conv is not None:
            x = x + chain(x, self.rep_neuron, *self.rep_conv.parts())
        x = x + self.drop_path(self.layer_scale1(self.attn(x)))
        return x + self.drop_path(self.layer_scale2(self.mlp(x)))


def _settings(dims: tuple[int, ...], rep_conv: bool) -> dict:
    return dict(dims=dims, depths=(1, 1, 2, 12), num_heads=8, mlp_ratio=4, rep_conv=rep_conv)


@MODELS.register_module()
class ESpikeFormerLarge(SpikingBackbone):
    """E-SpikeFormer backbone of 83 M and 173 M: three convolutional parts and a plain trunk of transformer blocks at stride 16.

    Stem: 7x7 stride 2 and a block of two 3x3 convolutions at width d0 / 2. Stages: such blocks at d0 (stride 4) and d1 (8),
    transformer blocks at d2 (16). With a classifier of 1000 classes they have 82.5 M and 170.8 M parameters.

    Args:
        arch: 'espikeformer-83m', '-173m' (the prefix may be left out), or a dict with ``dims`` (d0, d1, d2) and optionally
            ``depths`` (blocks of stem and stages, default (1, 1, 2, 12)), ``num_heads`` 8, ``mlp_ratio`` 4, ``rep_conv``
            True (whether transformer blocks begin with two pointwise convolutions, as in the smaller model).
        T: Time steps; 1 with the integer neuron, whose levels are no time axis.
        in_channels: Channels of the input: 3 for images, 2 for event frames of two polarities.
        strides: Of the four downsampling convolutions; smaller ones suit small images.
        layer_scale: Initial layer scale of attention and MLP; None: none, as in pretraining. A checkpoint without layer
            scale starts it at 1, so that pretrained blocks keep their function.
        neuron: Neuron config, see :func:`mmspike.models.neurons.build_neuron`. The published results have 4 or 8 levels.
        norm_cfg: Norm config.
        drop_path_rate: Stochastic depth of the last transformer block; it grows linearly from 0 at the first.
        out_indices, temporal_output, frozen_stages, norm_eval, with_cp, init_cfg: See :class:`SpikingBackbone`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> a tuple of features, one a stage in ``out_indices``. Their channels
        and strides are ``out_channels`` and ``out_strides``: 4, 8, 16 by default.
    """

    merges_layers = True
    arch_settings = {
        'espikeformer-83m': _settings((128, 256, 512), rep_conv=True),
        'espikeformer-173m': _settings((192, 384, 768), rep_conv=False),
    }

    def __init__(
        self,
        arch: str | dict = 'espikeformer-83m',
        T: int = 1,
        in_channels: int = 3,
        strides: Sequence[int] = (2, 2, 2, 2),
        layer_scale: float | None = None,
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(T=T, in_channels=in_channels, **kwargs)
        arch = resolve_arch(arch, self.arch_settings, type(self).__name__)
        neuron = neuron or dict(type='SFA', levels=4)
        norm_cfg = norm_cfg or dict(type='BN')
        if len(strides) != 4:
            raise ValueError(f'strides needs 4 entries, one a downsampling convolution, got {strides}')
        widths = [arch['dims'][0] // 2, *arch['dims']]
        rates = iter(np.linspace(0, drop_path_rate, arch['depths'][-1]).tolist())

        def block(part: int) -> nn.Module:
            if part < 3:
                return SparseConvBlock(widths[part], neuron, norm_cfg)
            return LargeTransformerBlock(
                widths[part],
                arch['num_heads'],
                arch['mlp_ratio'],
                arch['rep_conv'],
                layer_scale,
                neuron,
                norm_cfg,
                next(rates),
            )

        parts = []
        for i, (dim, depth, stride) in enumerate(zip(widths, arch['depths'], strides, strict=True)):
            # the first convolution sees the image: no neuron before it
            down = SparseDownsample(widths[i - 1] if i else in_channels, dim, stride, neuron if i else None, norm_cfg)
            parts.append(nn.Sequential(down, *[block(i) for _ in range(depth)]))
        self._register_stages(parts[0], parts[1:], widths, list(accumulate(strides, mul)))

    def forward(self, x: Tensor, visible: Tensor | None = None) -> tuple[Tensor, ...]:
        """Features of the requested stages, see :meth:`SpikingBackbone.forward`.

        Args:
            x: Images or frames.
            visible: Mask [B, H / s, W / s] of patches, s the stride of the last stage; H and W must then be multiples of s.
                True: visible. Hidden patches of the image count as 0, and the convolutional parts compute visible positions
                only (:class:`SparseConvNorm`); transformer blocks compute all tokens. None: all is visible.

        Raises:
            ValueError: The mask does not fit the image.
        """
        if visible is None:
            return super().forward(x)
        self._check_input(x)
        B, _, H, W = x.shape[-4:]
        stride = int(np.prod([stage[0].conv.conv.stride[0] for stage in [self.stem, *self.stages]]))
        if H % stride or W % stride or visible.shape != (B, H // stride, W // stride):
            raise ValueError(
                f'a masked image must be a multiple of {stride} px and its mask [B, H / {stride}, W / {stride}], got images '
                f'{tuple(x.shape)} and a mask {tuple(visible.shape)}'
            )
        visible = visible.bool()
        x = x * enlarge(visible, H, W).unsqueeze(1)
        x = self.stem[0](x.unsqueeze(0) if x.dim() == 4 else x, visible)
        if x.shape[0] != self.T:
            x = self._repeat(x)
        outs = []
        for position, stage in enumerate([list(self.stem)[1:], *self.stages]):
            for block in stage:
                x = self._run(block, x, *([visible] if isinstance(block, (SparseDownsample, SparseConvBlock)) else []))
            if position in self._positions:
                outs.append(mean_time(x) if self.temporal_output == 'mean' else x)
        return tuple(outs)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter and the number of depths, for layer-wise decay of the learning rate.

        Depth 0 holds the convolutional parts and the downsampling to the trunk, depth i + 1 its block i, the last one
        everything behind the backbone.

        Args:
            param_name: Name of the parameter.
            prefix: What the backbone's names begin with, such as 'backbone.'.
        """
        blocks = len(self.stages[-1]) - 1
        if not param_name.startswith(prefix):
            return blocks + 1, blocks + 2
        trunk = f'stages.{len(self.stages) - 1}.'
        name = param_name.removeprefix(prefix)
        # item 0 of the trunk is its downsampling
        return (int(name.removeprefix(trunk).split('.')[0]) if name.startswith(trunk) else 0), blocks + 2
