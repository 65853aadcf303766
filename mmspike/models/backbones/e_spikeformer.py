"""E-SpikeFormer (Spike-driven Transformer V3, TPAMI 2025, arXiv 2411.16061), the efficient models up to 19 M."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmspike.models.layers import MLP, ConvBlock, ConvNorm, DropPath, attend, chain
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .base import SpikingBackbone, resolve_arch


class SepConv(nn.Module):
    """Inverted separable convolution, spike-driven throughout: N - 1x1 (d to 2d) - BN - N - depthwise - BN - N - 1x1 - BN.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, kernel_size: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        hidden = 2 * dim
        self.neuron1 = build_neuron(neuron)
        self.pwconv1 = ConvNorm(dim, hidden, norm_cfg=norm_cfg)
        self.neuron2 = build_neuron(neuron)
        self.dwconv = ConvNorm(hidden, hidden, kernel_size, groups=hidden, norm_cfg=norm_cfg)
        self.neuron3 = build_neuron(neuron)
        self.pwconv2 = ConvNorm(hidden, dim, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        return chain(x, self.neuron1, self.pwconv1, self.neuron2, self.dwconv, self.neuron3, self.pwconv2)


class EfficientSpikeSelfAttention(nn.Module):
    """N - q, k, v - attention without softmax - N - 1x1 - BN; each of q, k, v is N(BN(1x1)), v four times as wide.

    With heads of width d over N tokens, y = N(q (k^T v) * 2 / sqrt(d)). The order of the products makes the cost O(N);
    with integer spikes the sums are exact, so the result is the same bit by bit as that of (q k^T) v.

    Args:
        dim: Channels, a multiple of ``num_heads``.
        num_heads: Attention heads.
        neuron: Neuron config.
        norm_cfg: Norm config.

    Shape:
        [T, B, C, H, W] in and out.
    """

    pairs_tokens = True

    def __init__(self, dim: int, num_heads: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        if dim % num_heads:
            raise ValueError(f'attention width {dim} must be a multiple of num_heads={num_heads}')
        self.num_heads = num_heads
        self.scale = 2 * (dim // num_heads) ** -0.5
        self.neuron = build_neuron(neuron)
        self.q_conv = ConvNorm(dim, dim, norm_cfg=norm_cfg)
        self.q_neuron = build_neuron(neuron)
        self.k_conv = ConvNorm(dim, dim, norm_cfg=norm_cfg)
        self.k_neuron = build_neuron(neuron)
        self.v_conv = ConvNorm(dim, 4 * dim, norm_cfg=norm_cfg)
        self.v_neuron = build_neuron(neuron)
        self.attn_neuron = build_neuron(neuron)
        self.proj_conv = ConvNorm(4 * dim, dim, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        s = self.neuron(x)
        q, k, v = (
            chain(s, conv, neuron, spikes_of=self.neuron)
            for conv, neuron in (
                (self.q_conv, self.q_neuron),
                (self.k_conv, self.k_neuron),
                (self.v_conv, self.v_neuron),
            )
        )
        y = self.attn_neuron(attend(q, k, v, self.num_heads, self.q_neuron, self.k_neuron, self.v_neuron) * self.scale)
        return chain(y, self.proj_conv, spikes_of=self.attn_neuron)


class LayerScale(nn.Module):
    """Learnable factor per channel (arXiv 2103.17239). Where a checkpoint has none it starts at 1, which changes nothing.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((dim,), float(init)))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale.view(-1, 1, 1)

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        state_dict.setdefault(f'{prefix}scale', torch.ones_like(self.scale))
        super()._load_from_state_dict(state_dict, prefix, *args)


class TransformerBlock(nn.Module):
    """x + SepConv(x) with a 3x3 kernel, then x + attention(x), then x + MLP(x).

    Args:
        layer_scale: Initial layer scale of the three branches; None: no layer scale.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float,
        layer_scale: float | None,
        neuron: dict,
        norm_cfg: dict,
        drop_path: float,
    ) -> None:
        super().__init__()
        self.sepconv = SepConv(dim, 3, neuron, norm_cfg)
        self.attn = EfficientSpikeSelfAttention(dim, num_heads, neuron, norm_cfg)
        self.mlp = MLP(dim, mlp_ratio, neuron, norm_cfg)
        scales = [nn.Identity() if layer_scale is None else LayerScale(dim, layer_scale) for _ in range(3)]
        self.layer_scale1, self.layer_scale2, self.layer_scale3 = scales
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.layer_scale1(self.sepconv(x)))
        x = x + self.drop_path(self.layer_scale2(self.attn(x)))
        return x + self.drop_path(self.layer_scale3(self.mlp(x)))


def _settings(*dims: int) -> dict:
    return dict(dims=dims, depths=(1, 1, 2, 6, 2), num_heads=8, mlp_ratio=4)


@MODELS.register_module()
class ESpikeFormer(SpikingBackbone):
    """E-SpikeFormer backbone: integer spikes in training, D binary steps in inference, attention in O(N) memory.

    Stem: 7x7 stride 2 and a ConvBlock at width d0 / 2. Stages: ConvBlocks at d0 (stride 4) and d1 (8), transformer blocks
    at d2 (16) and d3 (still 16: the last downsampling has stride 1).

    Args:
        arch: 'espikeformer-t' (2.7 M), '-s', '-m', '-l' (the prefix may be left out), or a dict with ``dims`` (d0 to d3)
            and optionally ``depths`` (blocks of stem and stages, default (1, 1, 2, 6, 2)), ``num_heads`` 8,
            ``mlp_ratio`` 4.
        T: Time steps; 1 with the integer neuron, whose levels are no time axis.
        in_channels: Channels of the input: 3 for images, 2 for event frames of two polarities.
        strides: Of the five downsampling convolutions; smaller ones suit small images.
        layer_scale: Initial layer scale of the transformer blocks, 1e-6 in the published segmentation code; None: none.
        neuron: Neuron config, see :func:`mmspike.models.neurons.build_neuron`.
        norm_cfg: Norm config.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0.
        out_indices, temporal_output, frozen_stages, norm_eval, with_cp, binary, init_cfg: See :class:`SpikingBackbone`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> a tuple of features, one a stage in ``out_indices``. Their channels
        and strides are ``out_channels`` and ``out_strides``: 4, 8, 16, 16 by default.
    """

    arch_settings = {
        'espikeformer-t': _settings(24, 48, 96, 128),
        'espikeformer-s': _settings(32, 64, 128, 192),
        'espikeformer-m': _settings(48, 96, 192, 240),
        'espikeformer-l': _settings(64, 128, 256, 360),
    }

    def __init__(
        self,
        arch: str | dict = 'espikeformer-m',
        T: int = 1,
        in_channels: int = 3,
        strides: Sequence[int] = (2, 2, 2, 2, 1),
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

        def conv_block(dim: int, drop_path: float) -> nn.Module:
            return ConvBlock(dim, SepConv(dim, 7, neuron, norm_cfg), neuron, norm_cfg, drop_path)

        def transformer_block(dim: int, drop_path: float) -> nn.Module:
            return TransformerBlock(dim, arch['num_heads'], arch['mlp_ratio'], layer_scale, neuron, norm_cfg, drop_path)

        self._build_stages(arch, strides, neuron, norm_cfg, drop_path_rate, conv_block, transformer_block)
