"""Dense, box and mask heads by themselves."""

import pytest
import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmdet.registry import MODELS
from mmengine.config import ConfigDict

from mmspike.models.detection import (
    SpikingConvFCBBoxHead,
    SpikingFCNMaskHead,
    SpikingRetinaHead,
    SpikingRoIExtractor,
    SpikingRPNHead,
    SpikingShared2FCBBoxHead,
    SpikingShared4Conv1FCBBoxHead,
    SpikingYOLOHead,
)

from ..spikes import NEURONS, assert_weights_read_spikes

C, T = 8, 2
BN = dict(type='BN')
MAKE = {
    'rpn': lambda neuron: SpikingRPNHead(C, feat_channels=C, num_convs=2, norm_cfg=BN, neuron=neuron),
    'retina': lambda neuron: SpikingRetinaHead(3, C, stacked_convs=2, feat_channels=C, norm_cfg=BN, neuron=neuron),
    'yolo': lambda neuron: SpikingYOLOHead(3, (C, C), (8, 16), bins=4, box_channels=C, cls_channels=C, neuron=neuron),
    '2fc': lambda neuron: SpikingShared2FCBBoxHead(
        16, in_channels=C, num_classes=3, fc_norm_cfg=dict(type='BN1d'), neuron=neuron
    ),
    '4conv1fc': lambda neuron: SpikingShared4Conv1FCBBoxHead(
        16, in_channels=C, conv_out_channels=C, num_classes=3, norm_cfg=BN, reg_class_agnostic=True, neuron=neuron
    ),
    'branches': lambda neuron: SpikingConvFCBBoxHead(
        num_cls_convs=1,
        num_cls_fcs=1,
        num_reg_convs=1,
        in_channels=C,
        conv_out_channels=C,
        fc_out_channels=16,
        with_avg_pool=True,
        num_classes=3,
        neuron=neuron,
    ),
    'mask': lambda neuron: SpikingFCNMaskHead(2, in_channels=C, conv_out_channels=C, num_classes=3, norm_cfg=BN, neuron=neuron),
    'mask, bilinear': lambda neuron: SpikingFCNMaskHead(
        1, in_channels=C, conv_out_channels=C, num_classes=3, upsample_cfg=dict(type='bilinear', scale_factor=2), neuron=neuron
    ),
}
# (scores, boxes or masks) for three RoIs of 7 x 7, or for two images with features of 8 x 8 and 4 x 4
SHAPES = {
    'rpn': ([(2, 9, 8, 8), (2, 9, 4, 4)], [(2, 36, 8, 8), (2, 36, 4, 4)]),
    'retina': ([(2, 27, 8, 8), (2, 27, 4, 4)], [(2, 36, 8, 8), (2, 36, 4, 4)]),
    'yolo': ([(2, 3, 8, 8), (2, 3, 4, 4)], [(2, 16, 8, 8), (2, 16, 4, 4)]),
    '2fc': ((3, 4), (3, 12)),
    '4conv1fc': ((3, 4), (3, 4)),
    'branches': ((3, 4), (3, 12)),
    'mask': (3, 3, 14, 14),
    'mask, bilinear': (3, 3, 14, 14),
}


def inputs(name, T=T):
    if name in ('rpn', 'retina', 'yolo'):
        return (torch.randn(T, 2, C, 8, 8) * 2, torch.randn(T, 2, C, 4, 4) * 2)
    return torch.randn(T, 3, C, 7, 7) * 2


def flat(outputs):
    return [outputs] if isinstance(outputs, torch.Tensor) else [t for o in outputs for t in flat(o)]


def shapes(outputs):
    if isinstance(outputs, torch.Tensor):
        return tuple(outputs.shape)
    return type(outputs)(shapes(o) for o in outputs)


def built(name, neuron):
    head = MAKE[name](neuron)
    head.init_weights()
    return head


@pytest.mark.parametrize('name', MAKE)
@pytest.mark.parametrize('neuron', NEURONS)
def test_shapes_gradients_and_spikes(name, neuron):
    head = built(name, neuron)
    for training in (True, False):
        with assert_weights_read_spikes(head.train(training)) as rates:
            out = head(inputs(name))
        assert shapes(out) == SHAPES[name]
        assert max(rates.values()) > 0
    head.train()
    sum(o.square().sum() for o in flat(head(inputs(name)))).backward()
    assert all(p.grad is not None for p in head.parameters())


def test_logits_of_masks_start_near_zero():
    """Counts are up to a half off their membranes, and a single class's Kaiming weights of 1.4 would make noise of that."""
    head = SpikingFCNMaskHead(1, in_channels=16, conv_out_channels=16, num_classes=1, norm_cfg=BN)
    head.init_weights()
    assert head(torch.randn(1, 5, 16, 7, 7)).abs().max() < 0.5
    assert head.upsample.conv.weight.std() > 0.1


@pytest.mark.parametrize('name', MAKE)
def test_logits_are_the_mean_over_steps(name):
    """SFA steps do not see each other, so T steps are T networks."""
    head = built(name, dict(type='SFA', levels=4, divisor=1)).eval()
    x = inputs(name)
    steps = [flat(head(tuple(f[t : t + 1] for f in x) if isinstance(x, tuple) else x[t : t + 1])) for t in range(T)]
    for both, *single in zip(flat(head(x)), *steps, strict=True):
        torch.testing.assert_close(both, sum(single) / T)


@pytest.mark.parametrize('name', MAKE)
def test_evaluation_is_the_function_of_training(name):
    """With norms held, nothing else differs: no neuron clips elsewhere, no layer is left out."""
    head = built(name, dict(type='SFA', levels=4, divisor=1))
    x = inputs(name)
    x = tuple(4 * f for f in x) if isinstance(x, tuple) else 4 * x
    evaluated = flat(head.eval()(x))
    head.train()
    for m in head.modules():
        if isinstance(m, torch.nn.modules.batchnorm._BatchNorm):
            m.eval()
    assert all(torch.equal(a, b) for a, b in zip(evaluated, flat(head(x)), strict=True))


@pytest.mark.parametrize('name', ['2fc', '4conv1fc', 'mask'])
def test_no_rois(name):
    head = built(name, NEURONS[0]).eval()
    outs = flat(head(inputs(name)[:, :0]))
    assert outs and all(len(o) == 0 for o in outs)


def extractor(cls):
    return cls(roi_layer=dict(type='RoIAlign', output_size=7, sampling_ratio=2), out_channels=C, featmap_strides=[4, 8])


ROIS = torch.tensor([[0, 0, 0, 20.5, 31], [1, 3, 4, 130, 140], [1, 8, 8, 16, 16]])


def test_roi_extractor_works_step_by_step():
    feats = (torch.randn(3, 2, C, 40, 40), torch.randn(3, 2, C, 20, 20))
    out = extractor(SpikingRoIExtractor)(feats, ROIS)
    assert out.shape == (3, 3, C, 7, 7)
    host = extractor(SingleRoIExtractor)
    for t in range(3):
        torch.testing.assert_close(out[t], host(tuple(f[t] for f in feats), ROIS))


def test_roi_extractor_keeps_boxes_exact_under_amp():
    feats = (torch.randn(2, 2, C, 300, 300).bfloat16(), torch.randn(2, 2, C, 150, 150).bfloat16())
    rois = torch.tensor([[1, 1001.0, 1001.0, 1033.0, 1033.0]])  # bfloat16 would round to 1000 and 1032
    exact = extractor(SpikingRoIExtractor)(tuple(f.float() for f in feats), rois)
    torch.testing.assert_close(extractor(SpikingRoIExtractor)(feats, rois), exact.bfloat16())  # only the result is rounded


@pytest.mark.parametrize(
    ('cfg', 'message'),
    [
        (dict(type='SpikingFCNMaskHead', upsample_cfg=dict(type='carafe', scale_factor=2)), 'no carafe'),
        (dict(type='SpikingFCNMaskHead', conv_cfg=dict(type='DCNv2')), 'no conv_cfg'),
        (dict(type='SpikingShared2FCBBoxHead', conv_cfg=dict(type='DCNv2')), 'got conv_cfg'),
        (dict(type='SpikingRetinaHead', num_classes=2, in_channels=8, conv_cfg=dict(type='DCNv2')), 'got conv_cfg'),
        (
            dict(
                type='SpikingStandardRoIHead',
                shared_head=dict(type='ResLayer', depth=50, stage=3, stride=2),
                train_cfg=None,
                test_cfg=ConfigDict(),
            ),
            'takes no shared_head, got ResLayer',
        ),
    ],
)
def test_refused(cfg, message):
    with pytest.raises(ValueError, match=message):
        MODELS.build(dict(cfg, type=f'mmspike.{cfg["type"]}'))


@pytest.mark.parametrize('limit', [dict(nms_pre=10), dict(nms_pre=-1), dict()])
def test_the_only_candidate_of_a_level_is_found(limit):
    """mmdet's own head leaves out the lowest one where nms_pre is not given."""
    cfg = ConfigDict(score_thr=0.5, nms=dict(type='nms', iou_threshold=0.5), max_per_img=5, **limit)
    anchors = dict(type='AnchorGenerator', scales=[1], ratios=[1.0], strides=[16])
    head = SpikingRetinaHead(1, C, feat_channels=C, stacked_convs=1, anchor_generator=anchors, test_cfg=cfg)
    scores = torch.full((1, 1, 4, 4), -9.0)
    scores[0, 0, 1, 2] = 3.0
    (found,) = head.predict_by_feat([scores], [torch.zeros(1, 4, 4, 4)], batch_img_metas=[dict(img_shape=(64, 64))])
    assert found.bboxes.tolist() == [[24.0, 8.0, 40.0, 24.0]]
