"""SpikeYOLO from image to boxes: sizes, targets, losses, predictions."""

import math

import pytest
import torch
from mmdet.registry import MODELS
from mmdet.testing import demo_mm_inputs
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData
from torch import nn

from mmspike.deploy import audit, difference, expand, fuse, leftovers
from mmspike.models import SpikingYOLOBackbone, SpikingYOLOPAFPN
from mmspike.models.detection import CIoULoss, CIoUOverlaps, SpikingYOLOHead

C = 8


@pytest.mark.parametrize(('size', 'parameters'), [('n', 13_271_616), ('s', 23_153_008), ('m', 47_841_840), ('l', 68_478_384)])
def test_sizes_have_the_published_parameters(repo, size, parameters):
    """13.2 (13.272 exactly), 23.1, 48 and 68.5 to 69 M for 80 classes."""
    name = 'spikeyolo_coco.py' if size == 's' else f'spikeyolo/spikeyolo-{size}_t1_4xb10-300e_coco.py'
    init_default_scope('mmdet')
    with torch.device('meta'):
        model = MODELS.build(Config.fromfile(repo / 'configs' / name).model)
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert model.backbone.out_strides == (8, 16, 32) == tuple(model.bbox_head.strides)
    assert model.neck.out_channels == tuple(model.bbox_head.in_channels)


def tiny(repo, T=1, neuron=None, num_classes=3):
    cfg = Config.fromfile(repo / 'configs' / 'spikeyolo_coco.py')
    init_default_scope('mmdet')
    model = cfg.model
    model.backbone.update(arch=dict(dims=(8, 8, 16, 24), depths=(1, 1, 1, 1)), T=T)
    model.neck.update(in_channels=[8, 16, 24], channels=C)
    model.bbox_head.update(in_channels=[C, 2 * C, 4 * C], box_channels=C, cls_channels=C, num_classes=num_classes)
    for part in (model.backbone, model.neck, model.bbox_head):
        part.neuron = neuron or part.neuron
    model.test_cfg.update(max_per_img=20, score_thr=0.0)
    return model


def build(cfg):
    torch.manual_seed(0)
    model = MODELS.build(cfg)
    model.init_weights()
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.uniform_(m.weight, 0.5, 1.5)
            nn.init.normal_(m.bias, 0.7, 0.5)
            nn.init.normal_(m.running_mean, 0, 0.2)
            nn.init.uniform_(m.running_var, 0.5, 1.5)
    return model


def batch(model, training, sizes=((96, 64), (70, 96)), boxes=(3, 0)):
    inputs = demo_mm_inputs(2, [[3, *s] for s in sizes], num_items=list(boxes), num_classes=3, use_box_type=True)
    return model.data_preprocessor(inputs, training)


@pytest.mark.parametrize(
    ('T', 'neuron'), [(1, None), (2, None), (2, dict(type='LIF', v_threshold=0.5)), (1, dict(type='ReLU'))], ids=str
)
def test_loss_and_predictions(repo, T, neuron):
    """Sizes that are no multiples of 32, an image without boxes."""
    model = build(tiny(repo, T, neuron)).train()
    data = batch(model, True)
    losses = model.loss(data['inputs'], data['data_samples'])
    assert set(losses) == {'loss_cls', 'loss_bbox', 'loss_dfl'}
    total = sum(losses.values())
    assert total.isfinite()
    total.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        for result, sample in zip(
            model.eval().predict(data['inputs'], data['data_samples']), data['data_samples'], strict=True
        ):
            found = result.pred_instances
            assert 0 < len(found) <= 20 and found.scores.isfinite().all() and (found.labels < 3).all()
            height, width = sample.ori_shape[:2]
            assert found.bboxes.min() >= 0 and (found.bboxes <= torch.tensor([width, height] * 2)).all()


def test_images_are_scaled_and_padded_with_the_grey_of_the_letterbox(repo):
    images = batch(build(tiny(repo)), False)['inputs']
    assert images.shape == (2, 3, 96, 96) and images.min() >= 0 and images.max() <= 1
    assert images[0, :, :, 64:].eq(114 / 255).all() and images[1, :, 70:].eq(114 / 255).all()


def test_no_boxes_in_a_batch(repo):
    """The classes learn that there is nothing, and every parameter is in the graph."""
    model = build(tiny(repo)).train()
    data = batch(model, True, boxes=(0, 0))
    losses = model.loss(data['inputs'], data['data_samples'])
    assert losses['loss_bbox'] == losses['loss_dfl'] == 0 < losses['loss_cls']
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize('neuron', [None, dict(type='SFA', levels=4, divisor=4), dict(type='LIF', v_threshold=0.5)], ids=str)
def test_deployed(repo, neuron):
    """Merged equals unmerged; of the whole detector the first convolution alone reads floats; binary steps add up the same."""
    model = build(tiny(repo, T=2, neuron=neuron)).double().eval()
    x = torch.rand(1, 3, 64, 96).double()
    network = fuse(model)
    assert leftovers(network) == []
    with torch.no_grad():
        outs = [[t for outs in m(x, mode='tensor') for t in outs] for m in (model, network, expand(network))]
    for a, b, c in zip(*outs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(a, c, rtol=1e-9, atol=1e-9)
        assert a.std() > 0
    found = audit(network, lambda: network(x, mode='tensor'))
    assert found.spike_driven and found.float_fed == ['backbone.stem.0.conv.conv (conv)'], str(found)
    assert {category for category, *_ in found.other} <= {'pooling and resampling', 'other elementwise arithmetic'}


def head(**kwargs):
    torch.manual_seed(0)
    made = SpikingYOLOHead(2, [C, 2 * C], strides=[8, 16], box_channels=C, cls_channels=C, **kwargs)
    made.init_weights()
    return made


def gt(boxes, labels):
    return InstanceData(bboxes=torch.tensor(boxes).view(-1, 4), labels=torch.tensor(labels, dtype=torch.long))


def ciou(a, b):
    """Complete IoU of two boxes as the paper writes it, with mmdet's condition of the last term."""
    (ax, ay, aX, aY), (bx, by, bX, bY) = a.tolist(), b.tolist()
    inter = max(min(aX, bX) - max(ax, bx), 0) * max(min(aY, bY) - max(ay, by), 0)
    iou = inter / ((aX - ax) * (aY - ay) + (bX - bx) * (bY - by) - inter)
    distance = ((ax + aX - bx - bX) ** 2 + (ay + aY - by - bY) ** 2) / 4
    diagonal = (max(aX, bX) - min(ax, bx)) ** 2 + (max(aY, bY) - min(ay, by)) ** 2
    v = 4 / math.pi**2 * (math.atan((bX - bx) / (bY - by)) - math.atan((aX - ax) / (aY - ay))) ** 2
    return iou - distance / diagonal - (v / (1 - iou + v) * v if iou > 0.5 else 0)


def test_losses_by_their_definition():
    """Computed cell by cell: two boxes that share cells, one that holds none, one outside, and an image without any."""
    made = head()
    torch.manual_seed(1)
    sizes = [(6, 8), (3, 4)]
    scores = [torch.randn(2, 2, *s) for s in sizes]
    bins = [torch.randn(2, 64, *s) * 2 for s in sizes]
    boxes = [[3.0, 2, 40, 30], [20.0, 10, 62, 46], [9.0, 9, 11, 11], [100.0, 100, 120, 130]]
    truths = [gt(boxes, [1, 0, 0, 1]), gt([], [])]
    losses = made.loss_by_feat(scores, bins, truths, [{}, {}])

    points = [(8 * x + 4, 8 * y + 4, 8) for y in range(6) for x in range(8)]
    points += [(16 * x + 8, 16 * y + 8, 16) for y in range(3) for x in range(4)]
    logits = torch.cat([s.flatten(2) for s in scores], 2).transpose(1, 2)
    sides = torch.cat([b.flatten(2) for b in bins], 2).transpose(1, 2).unflatten(-1, (4, 16))
    found = []
    for (x, y, stride), p in zip(points, sides[0], strict=True):
        left, top, right, bottom = (p.softmax(-1) @ torch.arange(16.0) * stride).tolist()
        found.append(torch.tensor([x - left, y - top, x + right, y + bottom]))
    claims = {}
    for k, (box, label) in enumerate(zip(torch.tensor(boxes), [1, 0, 0, 1], strict=True)):
        x0, y0, x1, y1 = box.tolist()
        inside = [i for i, (x, y, _) in enumerate(points) if x0 < x < x1 and y0 < y < y1]
        overlap = {i: max(ciou(found[i], box), 0) for i in inside}
        metric = {i: logits[0, i, label].sigmoid().item() ** 0.5 * overlap[i] ** 6 for i in inside}
        for i in sorted(inside, key=lambda i: -metric[i])[:10]:
            if metric[i] > 0 and overlap[i] > claims.get(i, (-1,))[0]:
                claims[i] = overlap[i], metric[i], k
    wanted, boxed, dfl = torch.zeros_like(logits), 0.0, 0.0
    owners = {k: [i for i in claims if claims[i][2] == k] for k in range(4)}
    assert len(owners[0]) > 1 and len(owners[1]) > 1 and not owners[2] and not owners[3]
    total = 0.0
    for k, cells in owners.items():
        for i in cells:
            best = [max(claims[j][n] for j in cells) for n in (0, 1)]
            value = claims[i][1] / best[1] * best[0]
            total += value
            wanted[0, i, [1, 0, 0, 1][k]] = value
            box, (x, y, stride) = torch.tensor(boxes[k]), points[i]
            boxed += value * (1 - ciou(found[i], box))
            distances = torch.stack([x - box[0], y - box[1], box[2] - x, box[3] - y]) / stride
            for p, d in zip(sides[0, i].log_softmax(-1), distances.clamp(max=14.99), strict=True):
                low = int(d)
                dfl -= value * (p[low] * (low + 1 - d) + p[low + 1] * (d - low)) / 4
    bce = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction='sum')
    scale = max(total, 1)
    torch.testing.assert_close(losses['loss_cls'], 0.5 * bce / scale, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses['loss_bbox'], torch.tensor(7.5 * boxed / scale), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses['loss_dfl'], torch.as_tensor(1.5 * dfl / scale), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('limit', [dict(nms_pre=10), dict(nms_pre=-1), dict()])
def test_decoding(limit):
    """A cell whose distributions are certain gives the box of those distances around its centre, in strides."""
    made = head(test_cfg=ConfigDict(score_thr=0.5, nms=dict(type='nms', iou_threshold=0.7), max_per_img=5, **limit))
    scores = [torch.full((1, 2, 6, 8), -9.0), torch.full((1, 2, 3, 4), -9.0)]
    bins = [torch.zeros(1, 64, 6, 8), torch.zeros(1, 64, 3, 4)]
    scores[1][0, 1, 1, 2] = 3.0
    for side, distance in enumerate((1, 0, 1, 1)):
        bins[1][0, 16 * side + distance, 1, 2] = 99.0
    (found,) = made.predict_by_feat(scores, bins, batch_img_metas=[dict(img_shape=(48, 64))])
    torch.testing.assert_close(found.bboxes, torch.tensor([[24.0, 24, 56, 40]]))
    torch.testing.assert_close(found.scores, torch.tensor([3.0]).sigmoid())
    assert found.labels.tolist() == [1]


def test_start_of_the_outputs():
    made = head()
    for i, stride in enumerate((8, 16)):
        assert made.box_branches[i][-1].conv.bias.eq(1).all()
        bias = torch.full((2,), math.log(5 / 2 / (640 / stride) ** 2))
        torch.testing.assert_close(made.cls_branches[i][-1].conv.bias.detach(), bias)
    more = head(objects=40).cls_branches[0][-1].conv.bias
    torch.testing.assert_close(more.detach(), made.cls_branches[0][-1].conv.bias.detach() + math.log(8))


def levels(channels=(4, 6, 8), sizes=((16, 24), (8, 12), (4, 6)), T=2):
    return [torch.randn(T, 1, c, *s) for c, s in zip(channels, sizes, strict=True)]


def test_faults_are_named():
    neck = SpikingYOLOPAFPN([4, 6, 8], C)
    with pytest.raises(ValueError, match='expected three features .* got 2'):
        neck(levels()[:2])
    with pytest.raises(ValueError, match='temporal_output="keep"'):
        neck([x[0] for x in levels()])
    with pytest.raises(ValueError, match=r'feature 2 must have half the size of feature 1, \(4, 6\), got \(8, 12\): choose'):
        neck(levels(sizes=((16, 24), (8, 12), (8, 12))))
    with pytest.raises(ValueError, match='three entries'):
        SpikingYOLOPAFPN([4, 6], C)
    with pytest.raises(ValueError, match='one entry a scale'):
        SpikingYOLOHead(2, [8, 16])
    with pytest.raises(ValueError, match='expected 2 features'):
        head()(levels())
    with pytest.raises(ValueError, match='no stateful neuron'):
        SpikingYOLOHead(2, [C], [8], neuron=dict(type='ILIF', stateful=True))


def test_odd_sizes_pass_the_neck():
    neck = SpikingYOLOPAFPN([4, 6, 8], C)
    outs = neck(levels(sizes=((9, 13), (5, 7), (3, 4))))
    assert [tuple(o.shape) for o in outs] == [(2, 1, C, 9, 13), (2, 1, 2 * C, 5, 7), (2, 1, 4 * C, 3, 4)]


def test_backbone_of_a_tiny_size_differs_by_its_levels():
    """D is part of the function: the same weights count further with more of it."""
    a, b = (SpikingYOLOBackbone(dict(dims=(8, 8, 16, 24)), neuron=dict(type='ILIF', levels=d)).eval() for d in (4, 8))
    b.load_state_dict(a.state_dict())
    x = 9 * torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert difference(a(x), b(x)).largest > 0


def test_overlaps_of_equal_boxes_are_one():
    """And not 0 / 0, as in mmdet's loss; a NaN box stays one."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [3.1, 4.2, 600.5, 411.3], [float('nan'), 0, 1, 1]])
    found = CIoUOverlaps()(boxes, boxes)
    assert found[:2, :2].diagonal().tolist() == [1, 1] and 0 <= found[0, 1] < 0.01
    assert found[2].isnan().all() and found[:, 2].isnan().all()
    shifted = boxes[1:2] + torch.tensor([1e-5, 0, 1e-5, 0])
    torch.testing.assert_close(CIoUOverlaps()(boxes[1:2], shifted), torch.ones(1, 1))


@pytest.mark.parametrize('reduction', ['mean', 'sum', 'none'])
@pytest.mark.parametrize('weight', [None, [2.0, 0.5, 1.0], [[2.0] * 4, [0.5] * 4, [1.0] * 4]], ids=str)
def test_the_loss_of_a_box_that_is_found_exactly_is_zero(reduction, weight):
    """mmdet's is NaN, and so are its gradients; all other boxes have mmdet's."""
    target = torch.tensor([[0.0, 0, 10, 10], [3.1, 4.2, 600.5, 411.3], [5.0, 5, 25, 15]])
    pred = (target + torch.tensor([[0.0], [0.0], [1.0]])).requires_grad_()
    weight = None if weight is None else torch.tensor(weight)
    hosts = MODELS.get('CIoULoss')(reduction='none')
    assert hosts(pred, target)[:2].isnan().all()
    expected = torch.cat([torch.zeros(2), hosts(pred[2:], target[2:]).detach()])  # of a weight of 1
    expected = dict(mean=expected.mean(), sum=expected.sum(), none=expected)[reduction]
    found = CIoULoss(reduction=reduction)(pred, target, weight)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert pred.grad[:2].eq(0).all() and pred.grad[2].isfinite().all() and pred.grad[2].ne(0).any()


def test_a_nan_box_is_not_hidden():
    boxes = torch.tensor([[float('nan'), 0, 1, 1]])
    assert CIoULoss()(boxes, torch.ones(1, 4)).isnan()


def test_all_boxes_found_exactly(repo):
    made = head()
    assert type(made.loss_bbox) is CIoULoss is type(build(tiny(repo)).bbox_head.loss_bbox)
    boxes = torch.tensor([[0.0, 0, 10, 10]], requires_grad=True)
    loss = made.loss_bbox(boxes, boxes.detach(), torch.ones(1), avg_factor=torch.tensor(1.0))
    loss.backward()
    assert loss == 0 and boxes.grad.eq(0).all()
