"""Spiking VGG, the backbone of Spiking-FCN and Spiking-DeepLab (arXiv 2110.07742)."""

from torch import nn

from mmspike.models.layers import Chain, ConvNorm, SpikingConv
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .base import SpikingBackbone

POOLS = dict(avg=nn.AvgPool2d, max=nn.MaxPool2d)


def pooled_conv(in_channels: int, out_channels: int, pool: str, neuron: dict, norm_cfg: dict) -> Chain:
    """N - 3x3 pool of stride 2 - 3x3 convolution - norm: [T, B, C, H, W] -> [T, B, C', H / 2, W / 2], rounded up."""
    conv = ConvNorm(in_channels, out_channels, 3, norm_cfg=norm_cfg)
    return Chain(neuron=build_neuron(neuron), pool=POOLS[pool](3, 2, 1), conv=conv)


@MODELS.register_module()
class SpikingVGG(SpikingBackbone):
    """VGG of N - 3x3 - norm layers, without shortcuts; pools of spikes between its stages.

    The first convolution is the stem, at stride 1; stage i has the rest of its layers and starts with a pool but for the first.
    Published are one norm for each time step, neurons with leak 0.99 and soft reset, images coded as Poisson spikes and T = 20;
    here are one norm for all steps, any neuron, and images as they are, so fewer steps do.

    Args:
        arch: 'spikingvgg-9' (the prefix may be left out); 'spikingvgg-9-deeplab', whose last two layers have dilation 2;
            'spikingvgg-9-fcn', which has the two layers of 1024 channels as a fourth stage; or a dict with ``dims`` (channels
            of the three or four stages), ``depths`` (their convolutions) and optionally ``dilation`` 1 (of the last stage's
            convolutions but its first).
        pool: 'avg', as published, whose outputs are fractions of spikes, or 'max', whose outputs are spikes.
        neuron: Neuron config, by default LIF with tau 2.
        T, in_channels, norm_cfg, kwargs: See :class:`SpikingBackbone`. By default weights start as published, Xavier uniform
            with gain 2.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> a tuple of features, one a stage in ``out_indices``. Their channels
        and strides are ``out_channels`` and ``out_strides``: 1, 2, 4 (and 8).

    Example:
        >>> import torch
        >>> from mmspike.models import SpikingVGG
        >>> model = SpikingVGG(dict(dims=(8, 12, 16), depths=(2, 2, 2)), T=2)
        >>> [tuple(f.shape) for f in model(torch.randn(2, 3, 32, 32))]
        [(2, 8, 32, 32), (2, 12, 16, 16), (2, 16, 8, 8)]
    """

    arch_settings = {
        'spikingvgg-9': dict(dims=(64, 128, 256), depths=(2, 2, 3), dilation=1),
        'spikingvgg-9-deeplab': dict(dims=(64, 128, 256), depths=(2, 2, 3), dilation=2),
        'spikingvgg-9-fcn': dict(dims=(64, 128, 256, 1024), depths=(2, 2, 3, 2), dilation=1),
    }

    def __init__(
        self,
        arch: str | dict = 'spikingvgg-9',
        T: int = 4,
        in_channels: int = 3,
        pool: str = 'avg',
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        init_cfg: dict | None = None,
        **kwargs,
    ) -> None:
        init_cfg = init_cfg or dict(type='Xavier', layer='Conv2d', gain=2, distribution='uniform')
        super().__init__(T=T, in_channels=in_channels, init_cfg=init_cfg, **kwargs)
        arch, neuron, norm_cfg = self._resolved(arch, neuron, norm_cfg)
        if pool not in POOLS:
            raise ValueError(f'pool must be one of {list(POOLS)}, got {pool!r}')
        dims, depths = arch['dims'], arch['depths']
        if len(dims) != len(depths) or depths[0] < 2 or min(depths) < 1:
            raise ValueError(
                f'arch needs a depth for each width, of 2 or more in the first stage and 1 or more in others, got {arch}'
            )
        layer_cfg: dict = dict(neuron=neuron, norm_cfg=norm_cfg)
        stem = nn.Sequential(ConvNorm(in_channels, dims[0], 3, norm_cfg=norm_cfg))
        stages = []
        for i, (dim, depth) in enumerate(zip(dims, depths, strict=True)):
            dilation = arch['dilation'] if i == len(dims) - 1 else 1
            layers = [pooled_conv(dims[i - 1], dim, pool, **layer_cfg)] if i else []
            layers += [SpikingConv(dim, dim, 3, dilation=dilation, **layer_cfg) for _ in range(depth - 1)]
            stages.append(nn.Sequential(*layers))
        self._register_stages(stem, stages, [dims[0], *dims], [1, *[2**i for i in range(len(dims))]])
