"""Whole classifiers, segmentors and detectors in parts that ONNX can hold, and what :mod:`.runner` computes around them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmspike.utils.optional import is_installed

#: images of free size are multiples of it
STRIDE = 32


@dataclass
class Part:
    """A graph of its own.

    Attributes:
        name: '' of the one that reads the image, 'box' and 'mask' of those that read regions.
        module: A tensor -> a tuple of tensors.
        input: Name of the input.
        outputs: Names of the outputs.
        shape: Of the input, None where a size is free.
    """

    name: str
    module: nn.Module
    input: str
    outputs: list[str]
    shape: tuple[int | None, ...]


class Calls(nn.Module):
    """A function of a network as a module."""

    def __init__(self, network: nn.Module, function: Callable[[Any, Tensor], tuple[Tensor, ...]]) -> None:
        super().__init__()
        self.network = network
        self.function = function

    def forward(self, inputs: Tensor) -> tuple[Tensor, ...]:
        return self.function(self.network, inputs)


def split(model: nn.Module, size: tuple[int, int] | None, steps: int | None = None) -> tuple[list[Part], dict]:
    """The parts of a whole model, and the description that its file carries.

    Args:
        model: A classifier, segmentor or detector, with neurons that can be exported.
        size: Height and width behind the preprocessor, None where they are free. That of a segmentor's windows is theirs.
        steps: Time steps of event frames.

    Raises:
        ValueError: The model predicts in a way of its own; what that is is named.
    """
    kinds: list[tuple[str, str, Callable]] = [
        ('mmpretrain', 'ImageClassifier', _classifier),
        ('mmseg', 'EncoderDecoder', _segmentor),
        ('mmdet', 'SingleStageDetector', _one_stage),
        ('mmdet', 'TwoStageDetector', _two_stage),
    ]
    names = {c.__name__ for c in type(model).__mro__}
    for host, name, take in kinds:
        if is_installed(host) and name in names:
            parts, about = take(model, size)
            break
    else:
        raise ValueError(
            f'{type(model).__name__} cannot be exported as a whole: classifiers, segmentors with one head, RetinaNet, '
            'SpikeYOLO, Faster and Mask R-CNN can. Export its backbone with --part backbone'
        )
    common = _preprocessor(model) | dict(size=size, multiple=STRIDE, channels=parts[0].shape[-3], steps=steps)
    about = common | about
    if steps is not None:
        parts[0].shape = (steps, *parts[0].shape)
    classes = (getattr(model, 'dataset_meta', None) or {}).get('classes')
    return parts, about | dict(classes=None if classes is None else list(classes))


def _preprocessor(model: Any) -> dict:
    p = model.data_preprocessor
    values = {name: getattr(p, name).flatten().tolist() if p._enable_normalize else None for name in ('mean', 'std')}
    test = getattr(p, 'test_cfg', None) or {}
    if test.get('size') is not None:
        raise ValueError(
            f'data_preprocessor.test_cfg.size={test["size"]}: padding to a size cannot be exported, size_divisor can'
        )
    return values | dict(
        swap_channels=bool(getattr(p, 'to_rgb', False) or getattr(p, '_channel_conversion', False)),
        divisor=test.get('size_divisor') or getattr(p, 'pad_size_divisor', 1),
        pad_value=float(getattr(p, 'pad_value', getattr(p, 'pad_val', 0))),
    )


def _image(model: Any, size: tuple[int, int] | None) -> tuple[int | None, ...]:
    channels = getattr(model.backbone, 'in_channels', 3)
    return (None, channels, *(size or (None, None)))


def _only(what: str, given: Any, expected: Any) -> None:
    if given != expected:
        raise ValueError(
            f'{what} is {given!r}, only {expected!r} can be exported. Export the backbone alone with --part backbone'
        )


def _as_hosts(part: str, module: Any, cls: type, *methods: str) -> None:
    """Raise ValueError if a head predicts in a way of its own."""
    for method in methods:
        if not isinstance(module, cls) or getattr(type(module), method) is not getattr(cls, method):
            raise ValueError(
                f'{part} ({type(module).__name__}) predicts otherwise than {cls.__name__} ({method}): the whole model '
                'cannot be exported. Export its backbone with --part backbone'
            )


def logits(classifier: Any, x: Tensor) -> tuple[Tensor]:
    return (classifier(x, mode='tensor'),)


def _classifier(model: Any, size: tuple[int, int] | None) -> tuple[list[Part], dict]:
    from mmpretrain.models.heads import ClsHead

    _as_hosts('head', model.head, ClsHead, '_get_predictions')
    return [Part('', Calls(model, logits), 'inputs', ['logits'], _image(model, size))], dict(task='classification')


def _is_mask_former(head: Any) -> bool:
    from mmspike.models.segmentation.mask_former_head import SpikingMaskFormerHead  # needs mmdet

    return type(head) is SpikingMaskFormerHead


def _segmentor(model: Any, size: tuple[int, int] | None) -> tuple[list[Part], dict]:
    from mmseg.models.decode_heads.decode_head import BaseDecodeHead
    from mmseg.models.segmentors import EncoderDecoder
    from mmseg.models.utils import resize

    _as_hosts('model', model, EncoderDecoder, 'encode_decode', 'postprocess_result')
    head, cfg = model.decode_head, model.test_cfg
    queries = is_installed('mmdet') and _is_mask_former(head)
    if not queries:
        _as_hosts('decode_head', head, BaseDecodeHead, 'predict', 'predict_by_feat')
    slides = cfg.get('mode') == 'slide'
    if slides:
        size = size and tuple(cfg.crop_size)
    corners = head.align_corners

    def run(m: Any, x: Tensor) -> tuple[Tensor]:
        logits = m.decode_head(m.extract_feat(x))
        if queries:
            (scores,), (masks,) = logits
            return (m.decode_head.sum_over_queries(scores, masks, x.shape[2:]),)
        return (resize(logits, size=x.shape[2:], mode='bilinear', align_corners=corners, warning=False),)

    about: dict = dict(task='segmentation', num_classes=model.num_classes, align_corners=corners, size=size)
    about['threshold'] = getattr(head, 'threshold', None)  # of a class alone
    if slides:
        about |= dict(window=list(cfg.crop_size), stride=list(cfg.stride))
    return [Part('', Calls(model, run), 'inputs', ['logits'], _image(model, size))], about


def _anchors(part: str, head: Any, cfg: Any, proposals: bool) -> dict:
    """The numbers that decode a head with anchors."""
    from mmdet.models.task_modules.prior_generators import AnchorGenerator

    generator = head.prior_generator
    if type(generator) is not AnchorGenerator:
        raise ValueError(f'{part} has a {type(generator).__name__}, only AnchorGenerator can be exported')
    anchors, coder = [a.tolist() for a in generator.base_anchors], _coder(part, head.bbox_coder)
    return _dense(part, head, cfg, proposals) | dict(anchors=anchors, coder=coder)


def _points(part: str, head: Any, cfg: Any) -> dict:
    """What decodes a head of distances from the centres of cells: as anchors they are boxes without an extent."""
    _only(f'{part}: bbox_coder', type(head.bbox_coder).__name__, 'DistancePointBBoxCoder')
    generator = head.prior_generator
    anchors = [[[s * generator.offset for s in stride] * 2] for stride in generator.strides]
    coder = dict(distances=True, clip=head.bbox_coder.clip_border)
    return _dense(part, head, cfg, proposals=False) | dict(anchors=anchors, coder=coder)


def _dense(part: str, head: Any, cfg: Any, proposals: bool) -> dict:
    """What chooses among the boxes of a dense head."""
    return dict(
        strides=[list(s) for s in head.prior_generator.strides],
        sigmoid=bool(head.use_sigmoid_cls),
        # region proposals are not filtered by score
        score_thr=-1.0 if proposals else cfg.get('score_thr', 0),
        nms_pre=cfg.get('nms_pre', -1),
        smallest=cfg.get('min_bbox_size', -1),
        nms_by_level=proposals,
        **_suppression(part, cfg),
        most=cfg.max_per_img,
    )


def _suppression(part: str, cfg: Any) -> dict:
    nms = dict(cfg.nms)
    method, agnostic = nms.pop('type', 'nms'), nms.pop('class_agnostic', False)
    if method != 'nms' or set(nms) != {'iou_threshold'}:
        raise ValueError(f"{part}: nms={dict(cfg.nms)} cannot be exported, dict(type='nms', iou_threshold=…) can")
    return dict(iou=nms['iou_threshold'], class_agnostic=agnostic)


def _coder(part: str, coder: Any) -> dict:
    _only(f'{part}: bbox_coder', type(coder).__name__, 'DeltaXYWHBBoxCoder')
    return dict(
        means=list(coder.means),
        stds=list(coder.stds),
        ratio=16 / 1000,  # the host's limit of the growth of a side
        clip=coder.clip_border,
        shift=coder.ctr_clamp if coder.add_ctr_clamp else None,
    )


def _dense_names(scales: int) -> list[str]:
    return [f'{name}_{i}' for name in ('scores', 'deltas') for i in range(scales)]


def _one_stage(model: Any, size: tuple[int, int] | None) -> tuple[list[Part], dict]:
    from mmdet.models.dense_heads import AnchorHead
    from mmdet.models.detectors import SingleStageDetector

    from mmspike.models.detection.yolo_head import SpikingYOLOHead

    _as_hosts('model', model, SingleStageDetector, 'predict', 'extract_feat')
    head = model.bbox_head
    of_points = type(head) is SpikingYOLOHead
    if not of_points:
        own = ('predict', 'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process', 'forward')
        _as_hosts('bbox_head', head, AnchorHead, *own)

    def run(m: Any, x: Tensor) -> tuple[Tensor, ...]:
        scores, deltas = m.bbox_head(m.extract_feat(x))
        return (*scores, *(m.bbox_head.in_pixels(deltas) if of_points else deltas))

    if of_points:
        dense = _points('bbox_head', head, model.test_cfg)
    else:
        dense = _anchors('bbox_head', head, model.test_cfg, proposals=False)
    names = _dense_names(len(dense['anchors']))
    return [Part('', Calls(model, run), 'inputs', names, _image(model, size))], dict(task='detection', dense=dense)


def _two_stage(model: Any, size: tuple[int, int] | None) -> tuple[list[Part], dict]:
    from mmdet.models.dense_heads import RPNHead
    from mmdet.models.detectors import TwoStageDetector
    from mmdet.models.roi_heads import StandardRoIHead
    from mmdet.models.roi_heads.bbox_heads import BBoxHead
    from mmdet.models.roi_heads.mask_heads import FCNMaskHead

    from mmspike.models.detection.roi_head import SpikingStandardRoIHead

    roi = model.roi_head
    _as_hosts('model', model, TwoStageDetector, 'predict', 'extract_feat')
    _as_hosts('rpn_head', model.rpn_head, RPNHead, 'predict', '_predict_by_feat_single', '_bbox_post_process')
    _as_hosts('roi_head', roi, StandardRoIHead, 'predict_bbox', 'predict_mask')
    _as_hosts('roi_head.bbox_head', roi.bbox_head, BBoxHead, 'predict_by_feat', '_predict_by_feat_single')
    if getattr(roi.bbox_head, 'custom_cls_channels', False):
        raise ValueError('roi_head.bbox_head: a loss with an activation of its own cannot be exported')
    if roi.with_shared_head:
        raise ValueError('roi_head.shared_head cannot be exported')
    used = roi.bbox_roi_extractor.num_inputs, roi.mask_roi_extractor.num_inputs if roi.with_mask else 0

    def run(m: Any, x: Tensor) -> tuple[Tensor, ...]:
        features = m.extract_feat(x)
        scores, deltas = m.rpn_head(features)
        return (*scores, *deltas, *features[: max(used)])

    dense = _anchors('rpn_head', model.rpn_head, model.test_cfg.rpn, proposals=True)
    names = _dense_names(len(dense['anchors'])) + [f'features_{i}' for i in range(max(used))]
    parts = [Part('', Calls(model, run), 'inputs', names, _image(model, size))]
    time = isinstance(roi, SpikingStandardRoIHead)
    steps = model.backbone.T if time else None
    cfg = model.test_cfg.rcnn
    about: dict = dict(
        coder=_coder('roi_head.bbox_head', roi.bbox_head.bbox_coder),
        score_thr=cfg.score_thr,
        most=cfg.max_per_img,
        **_suppression('roi_head', cfg),
        box=_pooling('roi_head.bbox_roi_extractor', roi.bbox_roi_extractor, time),
    )
    heads = [('box', roi.bbox_head, roi.bbox_roi_extractor, ['scores', 'deltas'])]
    if roi.with_mask:
        _as_hosts('roi_head.mask_head', roi.mask_head, FCNMaskHead, 'predict_by_feat', '_predict_by_feat_single')
        about |= dict(mask=_pooling('roi_head.mask_roi_extractor', roi.mask_roi_extractor, time), mask_thr=cfg.mask_thr_binary)
        heads.append(('mask', roi.mask_head, roi.mask_roi_extractor, ['masks']))
    for name, head, extractor, outputs in heads:
        shape = (None, extractor.out_channels, *extractor.roi_layers[0].output_size)
        module = Calls(head, lambda m, x: x if isinstance(x := m(x), tuple) else (x,))
        parts.append(Part(name, module, 'regions', outputs, shape if steps is None else (steps, *shape)))
    return parts, dict(task='detection', dense=dense, regions=about)


def _pooling(part: str, extractor: Any, time: bool) -> dict:
    from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor

    if not isinstance(extractor, SingleRoIExtractor):
        raise ValueError(f'{part} is a {type(extractor).__name__}, only SingleRoIExtractor can be exported')
    layer = extractor.roi_layers[0]
    _only(f'{part}: roi_layer.type', type(layer).__name__, 'RoIAlign')
    _only(f'{part}: roi_layer.pool_mode', layer.pool_mode, 'avg')
    return dict(
        size=list(layer.output_size),
        samples=layer.sampling_ratio,
        aligned=layer.aligned,
        strides=list(extractor.featmap_strides),
        finest=extractor.finest_scale,
        time=time,
    )


def example(part: Part, free: int) -> Tensor:
    """Random input of a part with ``free`` images or regions."""
    generator = torch.Generator().manual_seed(0)
    shape = [n or 0 for n in part.shape]
    shape[-4] = free
    if part.shape[-1] is None:
        shape[-2:] = 2 * STRIDE, 3 * STRIDE
    return torch.randn(*shape, generator=generator)
