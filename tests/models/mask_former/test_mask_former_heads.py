"""The heads of the spiking mask transformer for mmseg and mmdet: costs, losses, masks, refusals."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import nn

pytest.importorskip('mmdet')
from mmengine.registry import init_default_scope  # noqa: E402
from mmengine.structures import InstanceData, PixelData  # noqa: E402

from mmspike.registry import MODELS  # noqa: E402

from .networks import CHANNELS, SFA, SMALL, STRIDES, features  # noqa: E402


def head(kind, **kwargs):
    torch.manual_seed(0)
    cfg = dict(type=f'mmspike.{kind}', in_channels=CHANNELS, feature_strides=STRIDES, network=SMALL, neuron=SFA)
    model = MODELS.build(cfg | kwargs)
    model.init_weights()
    return model


def semantic_samples():
    from mmseg.structures import SegDataSample

    labels = torch.zeros(2, 1, 48, 72, dtype=torch.long)
    labels[:, :, 10:30, 20:50] = 2
    labels[:, :, :4] = 255
    meta = dict(img_shape=(48, 72), batch_input_shape=(48, 72))
    return [SegDataSample(gt_sem_seg=PixelData(data=x), metainfo=dict(meta)) for x in labels]


def panoptic_samples():
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    samples = []
    for label in (0, 1):
        masks = torch.zeros(2, 48, 72)
        masks[0, :20, :30] = masks[1, 25:40, 40:70] = 1
        stuff = torch.full((1, 48, 72), 255)
        stuff[:, 41:] = 2
        sample = DetDataSample(metainfo=dict(img_shape=(48, 72), batch_input_shape=(48, 72), ori_shape=(48, 72)))
        sample.gt_instances = InstanceData(labels=torch.tensor([label, label]), masks=BitmapMasks(masks.numpy(), 48, 72))
        sample.gt_sem_seg = PixelData(sem_seg=stuff)
        samples.append(sample)
    return samples


def test_costs_and_losses_by_definition():
    pytest.importorskip('mmseg')
    init_default_scope('mmseg')
    model, samples = head('SpikingMaskFormerHead', num_classes=3), semantic_samples()[:1]
    scores, masks = torch.randn(6, 4), torch.randn(6, 12, 18) * 2
    (truth,), metas = model._seg_data_to_instance_data(samples)
    losses = model.loss_by_feat([scores[None]], [masks[None]], [truth], metas)

    def focal(p, wanted):
        return -torch.where(wanted, 0.25 * (1 - p) ** 2 * p.log(), 0.75 * p**2 * (1 - p).log()).flatten(-2).mean(-1)

    def dice(p, wanted):
        p, wanted = p.flatten(-2), wanted.flatten(-2).float()
        return 1 - (2 * (p * wanted).sum(-1) + 1) / (p.sum(-1) + wanted.sum(-1) + 1)

    few = F.interpolate(truth.masks[:, None].float(), (12, 18)).bool().squeeze(1)
    p = masks.sigmoid()[:, None]
    cost = -scores.softmax(-1)[:, truth.labels] + 20 * focal(p, few) + dice(p, few)
    queries, places = map(torch.as_tensor, linear_sum_assignment(cost.numpy()))
    labels = torch.full((6,), 3).scatter(0, queries, truth.labels[places])
    p = F.interpolate(masks[queries][None], (48, 72), mode='bilinear')[0].sigmoid()
    wanted = truth.masks[places].bool()
    weights = torch.tensor([1.0, 1.0, 1.0, 0.1])
    torch.testing.assert_close(losses['loss_cls'].squeeze(), F.cross_entropy(scores, labels, weights))
    torch.testing.assert_close(losses['loss_mask'].squeeze(), 20 * focal(p, wanted).mean())
    torch.testing.assert_close(losses['loss_dice'].squeeze(), dice(p, wanted).mean())


def test_losses_of_small_masks():
    pytest.importorskip('mmseg')
    init_default_scope('mmseg')
    model, samples = head('SpikingMaskFormerHead', num_classes=3), semantic_samples()[:1]
    scores, masks = [torch.randn(1, 6, 4)], [torch.randn(1, 6, 12, 18)]
    (truth,), metas = model._seg_data_to_instance_data(samples)
    shares = truth.masks.double().unflatten(2, (18, 4)).unflatten(1, (12, 4)).mean((2, 4))
    assert 0 < ((shares > 0) & (shares < 0.5)).sum()  # pixels on edges
    small = InstanceData(labels=truth.labels, masks=(shares >= 0.5).to(truth.masks.dtype))
    expected = model.loss_by_feat(scores, masks, [small], metas)
    model.full_size_losses = False
    losses = model.loss_by_feat(scores, masks, [truth], metas)
    assert all(torch.equal(losses[k], expected[k]) for k in expected)
    nothing = InstanceData(labels=truth.labels[:0], masks=truth.masks[:0])
    assert all(v.isfinite() for v in model.loss_by_feat(scores, masks, [nothing], metas).values())


def test_semantic_head_learns_an_image():
    """Under mmseg's scope, which has losses of the same names."""
    pytest.importorskip('mmseg')
    init_default_scope('mmseg')
    model = head('SpikingMaskFormerHead', num_classes=3, network=SMALL | dict(decoder_layers=1)).train()
    assert type(model.loss_mask).__module__.startswith('mmdet.')
    x, samples = features(B=1, dtype=torch.float32), semantic_samples()[:1]
    optimizer = torch.optim.AdamW(model.parameters(), 2e-2)
    totals = []
    for _ in range(30):
        losses = model.loss(x, deepcopy(samples), None)
        assert len(losses) == 3 * 2
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        totals.append(sum(losses.values()).item())
    assert totals[-1] < 0.5 * totals[0]
    for m in model.modules():  # statistics of this image
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = 1.0
    with torch.no_grad():
        model(x)
        labels = model.eval().predict(x, [s.metainfo for s in samples], None).argmax(1)
    truth = samples[0].gt_sem_seg.data
    assert (labels == truth)[truth != 255].float().mean() > 0.9


def test_predictions_end_with_the_input():
    pytest.importorskip('mmseg')
    model, x = head('SpikingMaskFormerHead', num_classes=3).eval(), features(dtype=torch.float32)
    padded = model.predict(x, [dict(img_shape=(45, 70), pad_shape=(48, 72))] * 2, None)
    exact = model.predict(x, [dict(img_shape=(45, 70))] * 2, None)
    window = model.predict(x, [dict(img_shape=(45, 70), pad_shape=(200, 200))] * 2, None)
    assert padded.shape == (2, 3, 48, 72) and exact.shape == window.shape == (2, 3, 45, 70)
    assert torch.equal(padded[..., :45, :70], exact) and torch.equal(exact, window)


def test_panoptic_head():
    model = head('SpikingPanopticHead', num_things_classes=2, num_stuff_classes=1)
    x, samples = features(dtype=torch.float32), panoptic_samples()
    losses = model.train().loss(x, samples)
    assert len(losses) == 3 * 4 and all(v.isfinite() and v > 0 for v in losses.values())
    sum(losses.values()).backward()
    fusion = dict(type='mmdet.MaskFormerFusionHead', num_things_classes=2, num_stuff_classes=1)
    with MODELS.switch_scope_and_registry('mmdet') as registry:
        test_cfg = dict(panoptic_on=True, instance_on=True, object_mask_thr=0.0, iou_thr=0.0, max_per_image=5)
        fusion = registry.build(fusion | dict(test_cfg=test_cfg))
    with torch.no_grad():
        results = fusion.predict(*model.eval().predict(x, samples), samples)
    assert all(r['pan_results'].sem_seg.shape == (1, 48, 72) and len(r['ins_results']) > 0 for r in results)
    assert all(r['ins_results'].masks.shape[1:] == (48, 72) for r in results)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(neuron=dict(type='LIF', stateful=True)), 'no stateful neuron'),
        (dict(feature_strides=[4, 8]), 'as many'),
        (dict(feature_strides=[4, 8, 8]), 'must double'),
        (dict(network=SMALL | dict(groups=5)), 'multiple of groups=5'),
        (dict(network=SMALL | dict(num_heads=3)), 'multiple of num_heads=3'),
        (dict(network=SMALL | dict(num_pixels=[15])), 'each of 3 levels'),
        (dict(network=SMALL | dict(num_pixels=64)), 'each of 3 levels'),
        (dict(network=SMALL | dict(num_pixels=[0, 4, 16])), 'from 1 on'),
        (dict(network=SMALL | dict(channels=18)), 'multiple of 4'),
    ],
)
def test_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        head('SpikingPanopticHead', **kwargs)


def test_features_without_time_are_refused():
    model = head('SpikingPanopticHead')
    with pytest.raises(ValueError, match='temporal_output="keep"'):
        model([x[0] for x in features(dtype=torch.float32)])
