"""E-SpikeFormer (Spike-driven Transformer V3, TPAMI 2025, arXiv 2411.16061), the efficient models up to 19 M."""

from collections.abc import Sequence

from torch import nn

from mmspike.models.layers import MLP, Chain, ConvBlock, ConvNorm, Downsample, Residual, SpikeAttention, branches
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .base import SpikingBackbone, drop_path_rates, stage_settings


class SepConv(Chain):
    """Inverted separable convolution, spike-driven throughout: N - 1x1 (d to 2d) - BN - N - depthwise - BN - N - 1x1 - BN.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, kernel_size: int, neuron: dict, norm_cfg: dict) -> None:
        hidden = 2 * dim
        super().__init__(
            neuron1=build_neuron(neuron),
            pwconv1=ConvNorm(dim, hidden, norm_cfg=norm_cfg),
            neuron2=build_neuron(neuron),
            dwconv=ConvNorm(hidden, hidden, kernel_size, groups=hidden, norm_cfg=norm_cfg),
            neuron3=build_neuron(neuron),
            pwconv2=ConvNorm(hidden, dim, norm_cfg=norm_cfg),
        )


class EfficientSpikeSelfAttention(SpikeAttention):
    """N - q, k, v - attention without softmax - N - 1x1 - BN; each of q, k, v is N(BN(1x1)), v four times as wide.

    With heads of width d over N tokens, y = N(q (k^T v) * 2 / sqrt(d)). The order of the products makes the cost O(N);
    with integer spikes the sums are exact in float32, so the result is the same bit by bit as that of (q k^T) v.

    Args:
        dim: Channels, a multiple of ``num_heads``.
        num_heads: Attention heads.
        neuron: Neuron config.
        norm_cfg: Norm config.

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(self, dim: int, num_heads: int, neuron: dict, norm_cfg: dict) -> None:
        wide = dict(q=(dim, dim), k=(dim, dim), v=(dim, 4 * dim), proj=(4 * dim, dim))
        super().__init__(dim, num_heads, lambda name: ConvNorm(*wide[name], norm_cfg=norm_cfg), neuron)
        self.scale = 2 * (dim // num_heads) ** -0.5


def transformer_block(
    dim: int, num_heads: int, mlp_ratio: float, layer_scale: float | None, neuron: dict, norm_cfg: dict, drop_path: float
) -> Residual:
    """x + SepConv(x) with a 3x3 kernel, then x + attention(x), then x + MLP(x).

    Args:
        layer_scale: Initial layer scale of the three branches; None: no layer scale.
    """
    modules = dict(
        sepconv=SepConv(dim, 3, neuron, norm_cfg),
        attn=EfficientSpikeSelfAttention(dim, num_heads, neuron, norm_cfg),
        mlp=MLP(dim, mlp_ratio, neuron, norm_cfg),
    )
    return Residual(*branches(modules, drop_path, layer_scale, dim))


@MODELS.register_module()
class ESpikeFormer(SpikingBackbone):
    """E-SpikeFormer backbone: integer spikes in training, D binary steps in inference, attention in O(N) memory.

    Stem: 7x7 stride 2 and a ConvBlock at width d0 / 2. Stages: ConvBlocks at d0 (stride 4) and d1 (8), transformer blocks
    at d2 (16) and d3 (still 16: the last downsampling has stride 1).

    Args:
        arch: 'espikeformer-t' (2.7 M), '-s', '-m', '-l' (the prefix may be left out), or a dict with ``dims`` (d0 to d3)
            and optionally ``depths`` (blocks of stem and stages, default (1, 1, 2, 6, 2)), ``num_heads`` 8,
            ``mlp_ratio`` 4.
        T: Time steps; 1 with the integer neuron, whose levels are not a time axis.
        strides: Of the five downsampling convolutions; smaller ones suit small images.
        layer_scale: Initial layer scale of the transformer blocks, 1e-6 in the published segmentation code; None: none.
        neuron: Neuron config, see :func:`mmspike.models.neurons.build_neuron`.
        in_channels, norm_cfg, drop_path_rate, kwargs: See :class:`SpikingBackbone`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> a tuple of features, one a stage in ``out_indices``. Their channels
        and strides are ``out_channels`` and ``out_strides``: 4, 8, 16, 16 by default.

    Example:
        >>> import torch
        >>> from mmspike.models import ESpikeFormer
        >>> model = ESpikeFormer(dict(dims=(16, 16, 32, 32), depths=(1, 1, 1, 1, 1), num_heads=2))
        >>> [tuple(f.shape) for f in model(torch.randn(2, 3, 32, 32))]
        [(2, 16, 8, 8), (2, 16, 4, 4), (2, 32, 2, 2), (2, 32, 2, 2)]
    """

    default_neuron = dict(type='SFA', levels=4)
    arch_settings = {
        'espikeformer-t': stage_settings(24, 48, 96, 128),
        'espikeformer-s': stage_settings(32, 64, 128, 192),
        'espikeformer-m': stage_settings(48, 96, 192, 240),
        'espikeformer-l': stage_settings(64, 128, 256, 360),
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
        arch, neuron, norm_cfg = self._resolved(arch, neuron, norm_cfg)
        rates = drop_path_rates(drop_path_rate, sum(arch['depths']))

        def conv_block(dim: int) -> nn.Module:
            return ConvBlock(dim, SepConv(dim, 7, neuron, norm_cfg), neuron, norm_cfg, next(rates))

        def attention_block(dim: int) -> nn.Module:
            return transformer_block(dim, arch['num_heads'], arch['mlp_ratio'], layer_scale, neuron, norm_cfg, next(rates))

        self._build_stages(arch, strides, neuron, norm_cfg, Downsample, [conv_block] * 3 + [attention_block] * 2)
