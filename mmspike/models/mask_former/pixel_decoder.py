"""The pixel decoder of Spike2Former: separable and deformable spiking convolutions, then a path to the finest feature."""

import math
from collections.abc import Sequence

import torch
from mmengine.model import caffe2_xavier_init
from torch import Tensor, nn

from mmspike.models.backbones.e_spikeformer import SepConv
from mmspike.models.layers import MLP, Chain, Residual, SpikingConv, branches, fold, resized, unfold
from mmspike.models.neurons import build_neuron

KERNEL = 3


class DeformableSampling(nn.Module):
    """Weighted sums of a feature at places that move with the feature (DCNv3, arXiv 2211.05778), weights being spikes.

    The feature is a separable convolution of x. At every pixel a group of channels is sampled bilinearly at 3 x 3 neighbours,
    each moved by an offset of its own; the sum over the nine is weighted with spikes in place of a softmax. Offsets are floats
    of spikes, and what is sampled are membranes: no product here is one of spikes and weights.

    Args:
        dim: Channels, a multiple of ``groups``.
        groups: Groups of channels with offsets and weights of their own.
        neuron: Neuron config.
        norm_cfg: Norm config.

    Shape:
        [T, B, C, H, W] in and out, membranes.

    Example:
        >>> import torch
        >>> from mmspike.models.mask_former import DeformableSampling
        >>> sample = DeformableSampling(16, 2, dict(type='SFA', levels=4), dict(type='BN'))
        >>> sample(torch.randn(1, 2, 16, 8, 8)).shape
        torch.Size([1, 2, 16, 8, 8])
    """

    takes_time = True

    def __init__(self, dim: int, groups: int, neuron: dict, norm_cfg: dict) -> None:
        super().__init__()
        if dim % groups:
            raise ValueError(f'the width of the pixel decoder, {dim}, must be a multiple of groups={groups}')
        points = groups * KERNEL**2
        self.value = SepConv(dim, 5, neuron, norm_cfg)
        self.context = SpikingConv(dim, dim, 5, groups=dim, neuron=neuron, norm_cfg=norm_cfg, bias=False)
        self.offset = SpikingConv(dim, 2 * points, neuron=neuron, norm_cfg=norm_cfg, bias=True)
        self.modulation = Chain(
            conv=SpikingConv(dim, points, neuron=neuron, norm_cfg=norm_cfg, bias=True), neuron=build_neuron(neuron)
        )

    def init_weights(self) -> None:
        """Nothing is moved at the start, and every place counts once.

        The factors of the norms say so, and not weights of 0 as published: behind those a batch norm multiplies gradients by
        316, the first step of an optimizer moves places by a pixel, and neurons without input keep what is sampled at 0.
        """
        offsets, weights = self.offset.norm, self.modulation.conv.norm
        nn.init.zeros_(offsets.weight)
        nn.init.zeros_(weights.weight)
        nn.init.ones_(weights.bias)

    def forward(self, x: Tensor) -> Tensor:
        context = self.context(x)
        return self.sample(self.value(x), self.offset(context), self.modulation(context))

    def sample(self, value: Tensor, offset: Tensor, modulation: Tensor) -> Tensor:
        """The weighted sums, all arguments [T, B, ..., H, W]."""
        from torchvision.ops import deform_conv2d  # not at the top, since it costs a second

        # on the CPU it knows no half precision, by which places would move, too
        dtype, given = torch.promote_types(value.dtype, torch.float32), value.dtype
        value, offset, modulation = (x.to(dtype) for x in (value, offset, modulation))
        # the sum over the places is a convolution of every channel with ones
        ones = value.new_ones(value.shape[2], 1, KERNEL, KERNEL)
        args = fold(value), fold(offset), ones
        with torch.autocast(value.device.type, enabled=False):
            out = deform_conv2d(*args, padding=KERNEL // 2, mask=fold(modulation)).to(given)
        return unfold(out, value.shape[0])


class SpikingPixelDecoder(nn.Module):
    """Encoder on the coarsest feature, then upwards; every level is what queries can attend to, the finest has the masks.

    N is a neuron, CB a 1x1 convolution and a batch norm. The encoder is CB(N) and layers of three residual branches with
    layer scale: a separable convolution, deformable sampling and one more of them, an MLP. Levels above are
    y = DW(N(CB(N(x)) + enlarged y)), DW being a 3x3 depthwise convolution with norm.

    Args:
        in_channels: Channels of the features, finest first, each of twice the stride of the one before.
        channels: Width E.
        num_layers: Layers of the encoder.
        mlp_channels: Hidden width of their MLPs.
        groups: Of the deformable sampling; 0: none, two separable convolutions in its place. Everything reads spikes then.
        dense: DW is a dense convolution, as in MaskFormer: E times as many weights, and fewer iterations to learn from scratch.
        places: On the way up sines of the places, up to eight periods an image, are added to the sums. Masks of instances that
            look the same differ by nothing else (SOLOv2, arXiv 2003.10152, has coordinates for it).
        layer_scale: What branches are multiplied with at the start.
        neuron: Neuron config.
        norm_cfg: Norm config.

    Shape:
        Features [T, B, C_i, H_i, W_i], finest first -> mask features [T, B, E, H_0, W_0] and levels [T, B, E, H_i, W_i],
        coarsest first.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        num_layers: int,
        mlp_channels: int,
        groups: int,
        dense: bool,
        places: bool,
        layer_scale: float,
        neuron: dict,
        norm_cfg: dict,
    ) -> None:
        super().__init__()
        shared: dict = dict(neuron=neuron, norm_cfg=norm_cfg)
        *finer, coarsest = in_channels
        self.input = SpikingConv(coarsest, channels, bias=True, **shared)
        layers: list[nn.Module] = []
        for _ in range(num_layers):
            sampling: nn.Module = SepConv(channels, 5, **shared)
            if groups:
                sampling = DeformableSampling(channels, groups, **shared)
            local, deformable, mlp = branches(
                dict(
                    sepconv=SepConv(channels, 3, **shared),
                    project=SepConv(channels, 5, **shared),
                    mlp=MLP(channels, mlp_channels / channels, **shared),
                ),
                drop_path=0.0,
                layer_scale=layer_scale,
                dim=channels,
            )
            layers.append(Residual(local, dict(sampling=sampling, **deformable), mlp))
        self.encoder = nn.Sequential(*layers)
        self.output = SpikingConv(channels, channels, bias=True, **shared)
        self.laterals = nn.ModuleList(SpikingConv(c, channels, bias=True, **shared) for c in reversed(finer))
        apart = 1 if dense else channels
        self.smooth = nn.ModuleList(SpikingConv(channels, channels, 3, groups=apart, bias=False, **shared) for _ in finer)
        self.mask_feature = SpikingConv(channels, channels, neuron=neuron)
        self.positions: nn.Module | None = None
        if places:
            from mmdet.models.layers import SinePositionalEncoding

            self.positions = SinePositionalEncoding(num_feats=channels // 2, normalize=True, scale=16 * math.pi)

    def init_weights(self) -> None:
        """As mmdet's: laterals Xavier as in Caffe2, and nothing is moved, see :class:`DeformableSampling`."""
        for unit in (self.input, self.output, *self.laterals, self.mask_feature):
            caffe2_xavier_init(unit.conv, bias=0)
        for module in self.modules():
            if isinstance(module, DeformableSampling):
                module.init_weights()

    def forward(self, feats: Sequence[Tensor]) -> tuple[Tensor, list[Tensor]]:
        *finer, coarsest = feats
        y = self.output(self.encoder(self.input(coarsest)))
        levels = [y]
        for x, lateral, smooth in zip(reversed(finer), self.laterals, self.smooth, strict=True):
            y = lateral(x) + resized(y, x.shape[-2:], mode='bilinear', align_corners=False)
            if self.positions is not None:
                y = y + self.positions(torch.zeros(1, *y.shape[-2:], dtype=torch.bool, device=y.device)).to(y.dtype)
            y = smooth(y)
            levels.append(y)
        return self.mask_feature(y), levels
