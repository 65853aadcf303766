"""Further stages on top of a spiking backbone, for pyramids that are coarser than it."""

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn

from mmspike.models.checkpoints import init_weights
from mmspike.models.layers import SpikingConv, mean_time
from mmspike.registry import MODELS

from .base import SpikingBackbone


@MODELS.register_module()
class ExtraStages(BaseModule):
    """A spiking backbone with real scales of twice, four times, … its last stride: N - 3x3 stride 2 - norm each.

    The spike-driven transformers end at stride 16; a detector made for strides 4, 8, 16, 32 gets the last one from here. The
    scales keep the width of the backbone's last feature and are computed at every time step.

    Args:
        backbone: Config of the backbone. Its last feature, by ``out_indices``, is what the stages are put on.
        num_stages: How many.
        neuron: Neuron config of the stages.
        norm_cfg: Norm of the stages, by default BN.
        out_indices: Which of the backbone's features and the stages, in this order, are returned; None: all.
        temporal_output: As the backbone's, which takes it from here.

    Attributes:
        out_channels, out_strides: Of the returned features.
        T, in_channels: The backbone's.

    Shape:
        Images [B, C, H, W] or frames [T, B, C, H, W] -> a tuple of [B, C, H / stride, W / stride] (rounded up), or
        [T, B, …] with ``temporal_output='keep'``; membranes.

    Raises:
        ValueError: ``out_indices`` do not ascend or do not exist, ``temporal_output`` is unknown, or num_stages < 1.

    Example:
        >>> import torch
        >>> from mmspike.models import ExtraStages
        >>> vgg = dict(type='mmspike.SpikingVGG', arch=dict(dims=(8, 8, 16), depths=(2, 1, 1)), T=2, temporal_output='keep')
        >>> model = ExtraStages(vgg, num_stages=1, neuron=dict(type='LIF'))
        >>> [tuple(f.shape) for f in model(torch.randn(2, 3, 32, 32))]
        [(2, 8, 32, 32), (2, 8, 16, 16), (2, 16, 8, 8), (2, 16, 4, 4)]
    """

    def __init__(
        self,
        backbone: dict,
        num_stages: int,
        neuron: dict,
        norm_cfg: dict | None = None,
        out_indices: Sequence[int] | None = None,
        temporal_output: str = 'mean',
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if num_stages < 1:
            raise ValueError(f'num_stages must be at least 1, got {num_stages}: without further stages use the backbone itself')
        if temporal_output not in ('mean', 'keep'):
            raise ValueError(f"temporal_output must be 'mean' or 'keep', got {temporal_output!r}")
        self.backbone = MODELS.build(backbone | dict(temporal_output='keep'))
        if not isinstance(self.backbone, SpikingBackbone):
            raise ValueError(f'ExtraStages needs a spiking backbone of mmspike, got {type(self.backbone).__name__}')
        channels, strides = list(self.backbone.out_channels), list(self.backbone.out_strides)
        n = len(channels) + num_stages
        indices = list(range(n) if out_indices is None else out_indices)
        if not indices or sorted(set(indices)) != indices or not 0 <= indices[0] <= indices[-1] < n:
            raise ValueError(f'out_indices must ascend within [0, {n - 1}], got {out_indices}')
        dim = channels[-1]
        self.stages = nn.ModuleList(
            SpikingConv(dim, dim, 3, 2, neuron=neuron, norm_cfg=norm_cfg or dict(type='BN')) for _ in range(num_stages)
        )
        channels += [dim] * num_stages
        strides += [strides[-1] * 2 ** (k + 1) for k in range(num_stages)]
        self.out_indices = tuple(indices)
        self.out_channels = tuple(channels[i] for i in indices)
        self.out_strides = tuple(strides[i] for i in indices)
        self.temporal_output = temporal_output
        self.T = self.backbone.T
        self.in_channels = self.backbone.in_channels

    def init_weights(self) -> None:
        """Initialise as mmengine does, but a ``Pretrained`` checkpoint must fit entirely."""
        init_weights(self, super().init_weights)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features, see the class."""
        feats = list(self.backbone(x))
        for stage in self.stages:
            feats.append(stage(feats[-1]))
        return tuple(mean_time(feats[i]) if self.temporal_output == 'mean' else feats[i] for i in self.out_indices)

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter and the number of depths, as :meth:`SpikingBackbone.get_layer_depth`.

        The extra stages are not part of a pretrained backbone: they have the depth of the heads.
        """
        return self.backbone.get_layer_depth(param_name, f'{prefix}backbone.')
