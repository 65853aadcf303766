"""Meta-SpikeFormer (Spike-driven Transformer V2, ICLR 2024, arXiv 2404.03663)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mmspike.models.layers import MLP, ConvBlock, ConvNorm, DropPath, RepConvNorm, attend, chain
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .base import SpikingBackbone, resolve_arch


class SepConv(nn.Module):
    """Inverted separable convolution: N - 1x1 (d to 2d) - BN - N - 7x7 depthwise - 1x1 (2d to d) - BN.

    No neuron stands between the depthwise and the last convolution: they are one linear map.
    """

    def __init__(self, dim: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        hidden = 2 * dim
        self.neuron1 = build_neuron(neuron)
        self.pwconv1 = ConvNorm(dim, hidden, norm_cfg=norm_cfg)
        self.neuron2 = build_neuron(neuron)
        self.dwconv = nn.Conv2d(hidden, hidden, 7, padding=3, groups=hidden, bias=False)
        self.pwconv2 = ConvNorm(hidden, dim, norm_cfg=norm_cfg)

    def forward(self, x: Tensor) -> Tensor:
        return chain(x, self.neuron1, self.pwconv1, self.neuron2, self.dwconv, self.pwconv2)


class SpikeDrivenSelfAttention(nn.Module):
    """Spike-driven self-attention (SDSA) without softmax: N - q, k, v - attention - RepConv - BN.

    Each of q, k, v is N(BN(RepConv(s))) of the spikes s = N(x). With heads of width d over N tokens, per time step:

    - variant 1: y = v * N(sum over tokens of q * k): a mask per channel, no product of matrices (section 3.3);
    - variant 3: y = N(q (k^T v) / 8), threshold 0.5, linear in N;
    - variant 4: as 3, with the scale learned as the neuron's threshold.

    Args:
        dim: Channels, a multiple of ``num_heads``.
        num_heads: Attention heads.
        variant: 1, 3 or 4.
        neuron: Neuron config; the neuron on the attention takes half its threshold.
        norm_cfg: Norm config.

    Shape:
        [T, B, C, H, W] in and out.
    """

    scale = 0.125

    def __init__(self, dim: int, num_heads: int, variant: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        if variant not in (1, 3, 4):
            raise ValueError(f'sdsa variant must be 1, 3 or 4, got {variant}')
        if dim % num_heads:
            raise ValueError(f'attention width {dim} must be a multiple of num_heads={num_heads}')
        self.num_heads = num_heads
        self.variant = variant
        self.pairs_tokens = variant != 1  # q k^T is computed, and :mod:`mmspike.analysis` can show it
        self.neuron = build_neuron(neuron)
        for name in ('q', 'k', 'v', 'proj'):
            setattr(self, f'{name}_conv', RepConvNorm(dim, norm_cfg))
        for name in ('q', 'k', 'v'):
            setattr(self, f'{name}_neuron', build_neuron(neuron))
        self.attn_neuron = build_neuron(neuron)
        if hasattr(self.attn_neuron, 'v_threshold'):
            self.attn_neuron.v_threshold *= 0.5
        if variant == 4:
            # A neuron of threshold th fires on y exactly when one of threshold 0.5 fires on y * 0.5 / th (rest at 0).
            self.threshold = nn.Parameter(torch.tensor(0.5 / self.scale))

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
        if self.variant == 1:
            y = v * self.attn_neuron((q * k).sum((-2, -1), keepdim=True))
        else:
            y = attend(q, k, v, self.num_heads, self.q_neuron, self.k_neuron, self.v_neuron)
            y = self.attn_neuron(y * (0.5 / self.threshold if self.variant == 4 else self.scale))
        # products of spikes of two neurons, with variant 1, are no spikes of either
        return chain(y, self.proj_conv, spikes_of=None if self.variant == 1 else self.attn_neuron)


class TransformerBlock(nn.Module):
    """x + SDSA(x), then x + MLP(x).

    Shape:
        [T, B, C, H, W] in and out.
    """

    def __init__(
        self, dim: int, num_heads: int, mlp_ratio: float, sdsa: int, neuron: dict, norm_cfg: dict, drop_path: float
    ) -> None:
        super().__init__()
        self.attn = SpikeDrivenSelfAttention(dim, num_heads, sdsa, neuron, norm_cfg)
        self.mlp = MLP(dim, mlp_ratio, neuron, norm_cfg)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(x))
        return x + self.drop_path(self.mlp(x))


def _settings(*dims: int) -> dict:
    return dict(dims=dims, depths=(1, 1, 2, 6, 2), num_heads=8, mlp_ratio=4)


@MODELS.register_module()
class MetaSpikeFormer(SpikingBackbone):
    """Meta-SpikeFormer backbone: two convolutional and two transformer stages on membrane shortcuts.

    Stem: 7x7 stride 2 and a ConvBlock at width d0 / 2. Stages: ConvBlocks at d0 (stride 4) and d1 (8), transformer blocks
    at d2 (16) and d3 (still 16: the last downsampling has stride 1).

    Args:
        arch: 'metaspikeformer-15m', '-31m', '-55m' (the prefix may be left out), or a dict with ``dims`` (d0 to d3) and
            optionally ``depths`` (blocks of stem and stages, default (1, 1, 2, 6, 2)), ``num_heads`` 8, ``mlp_ratio`` 4.
        T: Time steps.
        in_channels: Channels of the input: 3 for images, 2 for event frames of two polarities.
        strides: Of the five downsampling convolutions; smaller ones suit small images.
        sdsa: Variant of the spike-driven self-attention, 1, 3 or 4.
        neuron: Neuron config, see :func:`mmspike.models.neurons.build_neuron`.
        norm_cfg: Norm config.
        drop_path_rate: Stochastic depth of the last block; it grows linearly from 0. (Published code builds it and never
            applies it; here it works, hence the default 0.)
        out_indices, temporal_output, frozen_stages, norm_eval, with_cp, init_cfg: See :class:`SpikingBackbone`.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> a tuple of features, one a stage in ``out_indices``. Their channels
        and strides are ``out_channels`` and ``out_strides``: 4, 8, 16, 16 by default.
    """

    merges_layers = True
    arch_settings = {
        'metaspikeformer-15m': _settings(64, 128, 256, 360),
        'metaspikeformer-31m': _settings(96, 192, 384, 480),
        'metaspikeformer-55m': _settings(128, 256, 512, 640),
    }

    def __init__(
        self,
        arch: str | dict = 'metaspikeformer-15m',
        T: int = 4,
        in_channels: int = 3,
        strides: Sequence[int] = (2, 2, 2, 2, 1),
        sdsa: int = 3,
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        drop_path_rate: float = 0.0,
        **kwargs,
    ) -> None:
        super().__init__(T=T, in_channels=in_channels, **kwargs)
        arch = resolve_arch(arch, self.arch_settings, type(self).__name__)
        neuron = neuron or dict(type='LIF', tau=2.0)
        norm_cfg = norm_cfg or dict(type='BN')

        def conv_block(dim: int, drop_path: float) -> nn.Module:
            return ConvBlock(dim, SepConv(dim, neuron, norm_cfg), neuron, norm_cfg, drop_path)

        def transformer_block(dim: int, drop_path: float) -> nn.Module:
            return TransformerBlock(dim, arch['num_heads'], arch['mlp_ratio'], sdsa, neuron, norm_cfg, drop_path)

        self._build_stages(arch, strides, neuron, norm_cfg, drop_path_rate, conv_block, transformer_block)
