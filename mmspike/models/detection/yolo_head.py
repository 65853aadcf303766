"""SpikeYOLO's head: anchor-free, decoupled, with a distribution over distances."""

import math
from collections.abc import Sequence

import torch
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.registry import TASK_UTILS
from mmdet.structures.bbox import bbox2distance, distance2bbox
from mmdet.utils import reduce_mean
from mmengine.structures import InstanceData
from torch import Tensor, nn

from mmspike.models.backbones.spiking_yolo import NORM
from mmspike.models.layers import SpikingConv, mean_time
from mmspike.registry import MODELS

from .dense_heads import all_candidates
from .neuron import head_neuron
from .overlaps import CIoULoss, CIoUOverlaps


@MODELS.register_module()
class SpikingYOLOHead(BaseDenseHead):
    """Dense head in which every weight reads spikes: for each scale two branches of 2 x (N - 3x3 - BN), then N - 1x1.

    The one for boxes gives for each side of a box a distribution over its distance from the cell's centre, 0 to ``bins`` - 1
    strides (GFL, arXiv 2006.04388); the other scores of classes. Targets are task-aligned (TOOD, arXiv 2108.07755): a box
    takes of the cells whose centre it holds the ``topk`` with the largest score^alpha * overlap^beta, which, divided by the
    box's largest and times its largest overlap, is the score to be learned. Losses are sums over all images divided by that
    of the scores to be learned.

    Args:
        num_classes: Classes.
        in_channels: Channels of the features, finest first.
        strides: Of the features, in pixels of the input.
        bins: Of the distribution of a distance.
        objects: Boxes that an image of 640 x 640 px has on average, by which the scores start.
        box_channels: Width of the branch for boxes; None: a quarter of the finest scale's, at least 64.
        cls_channels: Width of the branch for classes; None: that of the finest scale, at least min(classes, 100).
        neuron: Neuron config; the default is SFA with D = 4 and divisor 1, which is I-LIF at T = 1.
        norm_cfg: Norm config.
        loss_cls, loss_bbox, loss_dfl: The host's losses, but ``mmspike.CIoULoss`` for boxes; by default of weights 0.5, 7.5
            and 1.5.
        train_cfg: ``assigner`` of mmdet, ``alpha`` and ``beta`` of the metric; by default ``TaskAlignedAssigner`` with 10
            cells a box by complete IoU, 0.5 and 6.
        test_cfg: mmdet's for dense heads: ``score_thr``, ``nms``, ``nms_pre`` (all), ``max_per_img``.

    Shape:
        Levels [T, B, C_i, H_i, W_i], membranes -> scores [B, classes, H_i, W_i] and distributions [B, 4 bins, H_i, W_i]
        before softmax, averaged over T.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: Sequence[int],
        strides: Sequence[int] = (8, 16, 32),
        bins: int = 16,
        objects: float = 5,
        box_channels: int | None = None,
        cls_channels: int | None = None,
        neuron: dict | None = None,
        norm_cfg: dict | None = None,
        loss_cls: dict | None = None,
        loss_bbox: dict | None = None,
        loss_dfl: dict | None = None,
        train_cfg: dict | None = None,
        test_cfg: dict | None = None,
        init_cfg: dict | list[dict] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        in_channels, strides = list(in_channels), list(strides)
        if len(in_channels) != len(strides):
            raise ValueError(f'in_channels and strides need one entry a scale, got {in_channels} and {strides}')
        self.num_classes = self.cls_out_channels = num_classes
        self.use_sigmoid_cls = True
        self.in_channels, self.strides, self.bins, self.objects = in_channels, strides, bins, objects
        self.box_channels = box_channels or max(in_channels[0] // 4, 64)
        self.cls_channels = cls_channels or max(in_channels[0], min(num_classes, 100))
        shared: dict = dict(neuron=head_neuron(neuron), norm_cfg=norm_cfg or NORM)
        self.box_branches = nn.ModuleList(self._branch(c, self.box_channels, 4 * bins, shared) for c in in_channels)
        self.cls_branches = nn.ModuleList(self._branch(c, self.cls_channels, num_classes, shared) for c in in_channels)
        self.prior_generator = TASK_UTILS.build(dict(type='MlvlPointGenerator', strides=strides, offset=0.5))
        self.bbox_coder = TASK_UTILS.build(dict(type='DistancePointBBoxCoder'))
        self.loss_cls = MMDET_MODELS.build(loss_cls or dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=0.5))
        self.loss_bbox = MMDET_MODELS.build(loss_bbox or dict(type=CIoULoss, loss_weight=7.5))
        self.loss_dfl = MMDET_MODELS.build(loss_dfl or dict(type='DistributionFocalLoss', loss_weight=1.5))
        train_cfg = dict(train_cfg or {})
        assigner = dict(type='TaskAlignedAssigner', topk=10, iou_calculator=dict(type=CIoUOverlaps))
        self.assigner = TASK_UTILS.build(train_cfg.get('assigner', assigner))
        self.alpha, self.beta = train_cfg.get('alpha', 0.5), train_cfg.get('beta', 6.0)
        self.train_cfg, self.test_cfg = train_cfg, all_candidates(test_cfg)

    @staticmethod
    def _branch(in_channels: int, channels: int, outputs: int, shared: dict) -> nn.Sequential:
        return nn.Sequential(
            SpikingConv(in_channels, channels, 3, **shared),
            SpikingConv(channels, channels, 3, **shared),
            SpikingConv(channels, outputs, neuron=shared['neuron']),
        )

    def init_weights(self) -> None:
        """As PyTorch does; outputs start with a bias: 1 for boxes, and ``objects`` a scale and image for classes."""
        super().init_weights()
        for box, cls, stride in zip(self.box_branches, self.cls_branches, self.strides, strict=True):
            nn.init.constant_(box[-1].conv.bias, 1.0)
            nn.init.constant_(cls[-1].conv.bias, math.log(self.objects / self.num_classes / (640 / stride) ** 2))

    def forward(self, feats: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Scores and distributions of all scales, see the class."""
        if len(feats) != len(self.in_channels) or any(x.dim() != 5 for x in feats):
            raise ValueError(
                f'expected {len(self.in_channels)} features [T, B, C, H, W] of {self.in_channels} channels, got '
                f'{[tuple(x.shape) for x in feats]}: set temporal_output="keep" in the backbone'
            )
        scores = [mean_time(branch(x)) for branch, x in zip(self.cls_branches, feats, strict=True)]
        return scores, [mean_time(branch(x)) for branch, x in zip(self.box_branches, feats, strict=True)]

    def distances(self, distributions: Tensor) -> Tensor:
        """Mean distances [..., 4] in strides, left, top, right and bottom, of distributions [..., 4 bins]."""
        p = distributions.unflatten(-1, (4, self.bins)).softmax(-1)
        return (p * torch.arange(self.bins, dtype=p.dtype, device=p.device)).sum(-1)

    def in_pixels(self, distributions: Sequence[Tensor]) -> list[Tensor]:
        """Mean distances [B, 4, H_i, W_i] in pixels, of the distributions [B, 4 bins, H_i, W_i] of all levels."""
        return [
            (self.distances(x.movedim(1, -1)) * stride).movedim(-1, 1)
            for x, stride in zip(distributions, self.strides, strict=True)
        ]

    def loss_by_feat(
        self,
        scores: Sequence[Tensor],
        distributions: Sequence[Tensor],
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData] | None = None,
    ) -> dict[str, Tensor]:
        """``loss_cls``, ``loss_bbox`` and ``loss_dfl`` of a batch; images without boxes count for the first alone."""
        logits, sides = (
            torch.cat([scale.flatten(2).transpose(1, 2) for scale in scales], 1).float() for scales in (scores, distributions)
        )
        cells = torch.cat(
            self.prior_generator.grid_priors([s.shape[-2:] for s in scores], logits.dtype, logits.device, with_stride=True)
        )
        with torch.no_grad():
            found = self._decode(cells.expand(len(sides), -1, -1), sides)
            targets = [
                self._targets(*one, cells[:, :2]) for one in zip(logits.sigmoid(), found, batch_gt_instances, strict=True)
            ]
            place, labels, boxes, values = (torch.cat(parts) for parts in zip(*targets, strict=True))
            image = torch.cat([t[0].new_full(t[0].shape, i) for i, t in enumerate(targets)])
            wanted = torch.zeros_like(logits)
            wanted[image, place, labels] = values
            total = reduce_mean(values.sum()).clamp(min=1)
            wanted_sides = bbox2distance(cells[place, :2], boxes) / cells[place, 2:3]
        sides = sides[image, place]
        return dict(
            loss_cls=self.loss_cls(logits.flatten(0, 1), wanted.flatten(0, 1), avg_factor=total),
            loss_bbox=self.loss_bbox(self._decode(cells[place], sides), boxes, values, avg_factor=total),
            loss_dfl=self.loss_dfl(
                sides.view(-1, self.bins),
                wanted_sides.clamp(0, self.bins - 1.01).flatten(),
                values.repeat_interleave(4),
                avg_factor=4 * total,
            ),
        )

    def _decode(self, cells: Tensor, distributions: Tensor) -> Tensor:
        """Boxes [..., 4] in pixels of cells [..., 4], of which each is (x, y, stride, stride)."""
        return distance2bbox(cells[..., :2], self.distances(distributions) * cells[..., 2:3])

    def _targets(self, scores: Tensor, found: Tensor, gt: InstanceData, points: Tensor) -> tuple[Tensor, ...]:
        """Targets of the cells [k] that are to find a box of an image: their places, labels, boxes, and scores to be learned.

        Args:
            scores, found: Of all cells, [n, classes] and boxes [n, 4].
            points: Centres of the cells [n, 2].
        """
        inside = ((points[:, None] > gt.bboxes[:, :2]) & (points[:, None] < gt.bboxes[:, 2:])).all(-1)
        # A column of scores is a box's: cells outside of it score 0, so that mmdet's assigner takes those inside alone.
        scores = scores[:, gt.labels] * inside
        result = self.assigner.assign(
            InstanceData(priors=points.repeat(1, 2), bboxes=found, scores=scores),
            InstanceData(bboxes=gt.bboxes, labels=torch.arange(len(gt), device=points.device)),
            alpha=self.alpha,
            beta=self.beta,
        )
        place = (result.gt_inds > 0).nonzero().flatten()
        owner, metric, overlap = result.gt_inds[place] - 1, result.assign_metrics[place], result.max_overlaps[place]
        largest = [x.new_zeros(len(gt)).scatter_reduce(0, owner, x, 'amax')[owner] for x in (metric, overlap)]
        return place, gt.labels[owner], gt.bboxes[owner], metric / largest[0] * largest[1]

    def predict_by_feat(
        self, cls_scores: Sequence[Tensor], bbox_preds: Sequence[Tensor], *args, **kwargs
    ) -> list[InstanceData]:
        """mmdet's, on scores and distributions of all scales."""
        return super().predict_by_feat(cls_scores, self.in_pixels(bbox_preds), *args, **kwargs)
