"""Spiking box heads of two-stage detectors."""

from mmdet.models.roi_heads.bbox_heads import ConvFCBBoxHead
from torch import Tensor, nn

from mmspike.models.layers import SpikingConv, SpikingLinear, bits_of, fold, run, unfold
from mmspike.models.neurons import build_neuron
from mmspike.registry import MODELS

from .neuron import head_neuron


@MODELS.register_module()
class SpikingConvFCBBoxHead(ConvFCBBoxHead):
    """mmdet's ``ConvFCBBoxHead`` in which every weight reads spikes: N - 3x3 (- norm), N - FC (- norm), and N before both
    outputs.

    Args:
        neuron: Neuron config.
        fc_norm_cfg: Norm after each hidden FC, such as ``dict(type='BN1d')``, or None. LIF neurons learn from scratch with
            one only: without it few of them fire.
        binary: Weights of one bit in the hidden layers, see :func:`mmspike.models.layers.binary_weight`.
        weight_bits: Bits of their weights, 2 to 8, see :func:`mmspike.models.layers.rounded_weight`; 1 as ``binary``.
        *args, **kwargs: The host's; its ``norm_cfg`` is that of the convolutions.

    Shape:
        RoI features [T, N, C, h, w], membranes -> class scores [N, classes + 1] and box deltas [N, 4 or 4 classes], averaged
        over T.
    """

    rows = (('neuron_cls', 'fc_cls'), ('neuron_reg', 'fc_reg'))  # who runs after whom, for mmspike.deploy

    def __init__(
        self,
        *args,
        neuron: dict | None = None,
        fc_norm_cfg: dict | None = None,
        binary: bool = False,
        weight_bits: int | None = None,
        **kwargs,
    ) -> None:
        # set before the host's __init__, which makes the branches
        self.neuron_cfg = head_neuron(neuron)
        self.fc_norm_cfg = fc_norm_cfg
        self.weight_bits = bits_of(binary, weight_bits)
        super().__init__(*args, **kwargs)
        if self.conv_cfg:
            raise ValueError(f'{type(self).__name__} has ordinary convolutions only, got conv_cfg={self.conv_cfg}')
        if kwargs.get('init_cfg') is None:  # the host's reaches its hidden layers by name, and norms among them
            outputs = [('fc_cls', 0.01)] * self.with_cls + [('fc_reg', 0.001)] * self.with_reg
            self.init_cfg = [
                dict(type='Kaiming', layer='Conv2d'),
                dict(type='Xavier', layer='Linear', distribution='uniform'),
                *[dict(type='Normal', std=std, override=dict(name=name)) for name, std in outputs],
            ]
        del self.relu
        self.neuron_cls = build_neuron(self.neuron_cfg)
        self.neuron_reg = build_neuron(self.neuron_cfg)

    def _add_conv_fc_branch(
        self, num_branch_convs: int, num_branch_fcs: int, in_channels: int, is_shared: bool = False
    ) -> tuple[nn.ModuleList, nn.ModuleList, int]:
        dim = in_channels
        kwargs: dict = dict(neuron=self.neuron_cfg, weight_bits=self.weight_bits)
        convs, fcs = nn.ModuleList(), nn.ModuleList()
        for _ in range(num_branch_convs):
            convs.append(SpikingConv(dim, self.conv_out_channels, 3, norm_cfg=self.norm_cfg, **kwargs))
            dim = self.conv_out_channels
        if num_branch_fcs and (is_shared or self.num_shared_fcs == 0) and not self.with_avg_pool:
            dim *= self.roi_feat_area
        for _ in range(num_branch_fcs):
            fcs.append(SpikingLinear(dim, self.fc_out_channels, norm_cfg=self.fc_norm_cfg, **kwargs))
            dim = self.fc_out_channels
        return convs, fcs, dim

    def _flatten(self, x: Tensor) -> Tensor:
        """[T, N, C, h, w] -> [T, N, C'], membranes."""
        if self.with_avg_pool:
            x = unfold(self.avg_pool(fold(x)), x.shape[0])
        return x.flatten(2)

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """Class scores and box deltas, see the class."""
        for conv in self.shared_convs:
            x = conv(x)
        if self.num_shared_fcs > 0:
            x = self._flatten(x)
            for fc in self.shared_fcs:
                x = fc(x)
        outs: list[Tensor | None] = []
        branches = (
            (self.with_cls, self.cls_convs, self.cls_fcs, self.neuron_cls, 'fc_cls'),
            (self.with_reg, self.reg_convs, self.reg_fcs, self.neuron_reg, 'fc_reg'),
        )
        for wanted, convs, fcs, neuron, predictor in branches:
            if not wanted:
                outs.append(None)
                continue
            y = x
            for conv in convs:
                y = conv(y)
            if y.dim() > 3:
                y = self._flatten(y)
            for fc in fcs:
                y = fc(y)
            outs.append(run([neuron, getattr(self, predictor)], y).mean(0))
        return outs[0], outs[1]


@MODELS.register_module()
class SpikingShared2FCBBoxHead(SpikingConvFCBBoxHead):
    """N - FC - N - FC, then N - fc_cls and N - fc_reg; see :class:`SpikingConvFCBBoxHead`.

    Example:
        >>> import torch
        >>> from mmspike.models.detection import SpikingShared2FCBBoxHead
        >>> head = SpikingShared2FCBBoxHead(fc_out_channels=16, in_channels=8, roi_feat_size=7, num_classes=3)
        >>> scores, deltas = head(torch.randn(4, 5, 8, 7, 7))
        >>> tuple(scores.shape), tuple(deltas.shape)
        ((5, 4), (5, 12))
    """

    def __init__(self, fc_out_channels: int = 1024, *args, **kwargs) -> None:
        super().__init__(0, 2, 0, 0, 0, 0, *args, fc_out_channels=fc_out_channels, **kwargs)


@MODELS.register_module()
class SpikingShared4Conv1FCBBoxHead(SpikingConvFCBBoxHead):
    """4 x (N - 3x3 (- norm)) - N - FC, then N - fc_cls and N - fc_reg; see :class:`SpikingConvFCBBoxHead`."""

    def __init__(self, fc_out_channels: int = 1024, *args, **kwargs) -> None:
        super().__init__(4, 1, 0, 0, 0, 0, *args, fc_out_channels=fc_out_channels, **kwargs)
