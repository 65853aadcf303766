"""Operators that compiled mmcv knows on GPUs only, against their definitions, written as loops or in float64."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from mmcv import ops
from mmcv.ops.multi_scale_deform_attn import MultiScaleDeformableAttnFunction, multi_scale_deformable_attn_pytorch
from mmcv.ops.sync_bn import SyncBatchNormFunction
from torch import Tensor

from mmspike.ops import reassembly, regions
from mmspike.ops.sampling import bilinear
from mmspike.utils.errors import UserError

EXACT = dict(rtol=0, atol=0)


def rand(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def sample(image: Tensor, y: float, x: float) -> Tensor:
    """One bilinear sample of an image [C, H, W] as mmcv's kernels take it."""
    height, width = image.shape[1:]
    if y < -1 or y > height or x < -1 or x > width:
        return image.new_zeros(len(image))
    y, x = max(y, 0.0), max(x, 0.0)
    top, left = min(int(y), height - 1), min(int(x), width - 1)
    down, across = (0.0 if top == height - 1 else y - top), (0.0 if left == width - 1 else x - left)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    upper = image[:, top, left] * (1 - across) + image[:, top, right] * across
    return upper * (1 - down) + (image[:, bottom, left] * (1 - across) + image[:, bottom, right] * across) * down


def same_gradients(function: Callable[..., Tensor], definition: Callable[..., Tensor], *leaves: Tensor, **close: float) -> None:
    """Outputs and gradients of two functions of ``leaves``."""
    found, expected = [], []
    for results, f in ((found, function), (expected, definition)):
        inputs = [x.clone().requires_grad_() for x in leaves]
        out = f(*inputs)
        results += [out.detach(), *torch.autograd.grad(out, inputs, rand(*out.shape, seed=99, dtype=out.dtype))]
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, **close)


def test_bilinear() -> None:
    image = rand(3, 4, 5, dtype=torch.float64)
    y = torch.tensor([-1.5, -1.0, -0.3, 0.0, 1.25, 2.999, 3.0, 3.5, 4.0, 4.01], dtype=torch.float64)
    x = torch.linspace(-1.2, 5.2, 10, dtype=torch.float64)
    pixels, weights = bilinear(y[:, None], x, 4, 5)
    values = sum(image.flatten(1)[:, p] * w for p, w in zip(pixels, weights, strict=True))
    expected = torch.stack([torch.stack([sample(image, float(a), float(b)) for b in x], 1) for a in y], 1)
    torch.testing.assert_close(values, expected)


@pytest.mark.parametrize('weighted', [False, True])
@pytest.mark.parametrize('gamma, alpha', [(2.0, 0.25), (1.5, 0.6), (0.0, 0.5)])
def test_sigmoid_focal_loss(gamma: float, alpha: float, weighted: bool) -> None:
    logits, target = rand(7, 4, dtype=torch.float64) * 4, torch.tensor([0, 1, 2, 3, 4, 4, 2])
    weight = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64) if weighted else None

    def definition(x: Tensor) -> Tensor:
        positive = F.one_hot(target, 5)[:, :4].double()
        p = x.sigmoid()
        distance = positive * (1 - p) + (1 - positive) * p
        factor = (positive * alpha + (1 - positive) * (1 - alpha)) * distance**gamma
        loss = factor * F.binary_cross_entropy_with_logits(x, positive, reduction='none')
        return loss if weight is None else loss * torch.cat([weight, weight.new_ones(1)])[target][:, None]

    loss = ops.sigmoid_focal_loss
    same_gradients(lambda x: loss(x, target, gamma, alpha, weight, 'none'), definition, logits)
    same_gradients(lambda x: loss(x, target, gamma, alpha, weight, 'mean'), lambda x: definition(x).sum() / 7, logits)


def test_sigmoid_focal_loss_of_extreme_logits_is_finite() -> None:
    logits = torch.tensor([[200.0, -200.0]]).requires_grad_()
    loss = ops.sigmoid_focal_loss(logits, torch.tensor([1]), 2.0, 0.25, None, 'sum')
    loss.backward()
    # as in mmcv's kernel, the probability is not below the smallest normal number
    assert loss.item() == pytest.approx(-math.log(torch.finfo(torch.float32).tiny), rel=1e-6)
    assert logits.grad.isfinite().all()


@pytest.mark.parametrize('weighted', [False, True])
def test_softmax_focal_loss(weighted: bool) -> None:
    logits, target = rand(6, 4, dtype=torch.float64) * 3, torch.tensor([0, 1, 2, 3, -1, 2])
    weight = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64) if weighted else None

    def definition(x: Tensor) -> Tensor:
        p = x.softmax(1)[torch.arange(6), target.clamp(min=0)]
        loss = -0.25 * (1 - p) ** 2 * p.log() * (target >= 0)
        return (loss if weight is None else loss * weight[target.clamp(min=0)]).sum()

    same_gradients(lambda x: ops.softmax_focal_loss(x, target, 2.0, 0.25, weight, 'sum'), definition, logits)


def test_multi_scale_deformable_attention() -> None:
    """Against mmcv's own version in PyTorch, which it takes for tensors on the CPU."""
    shapes = torch.tensor([[4, 5], [2, 3]])
    start = torch.tensor([0, 20])
    value, weights = rand(2, 26, 2, 3), rand(2, 7, 2, 2, 3, seed=1)
    locations = torch.rand(2, 7, 2, 2, 3, 2, generator=torch.Generator().manual_seed(2)) * 1.4 - 0.2
    same_gradients(
        lambda v, s, w: MultiScaleDeformableAttnFunction.apply(v, shapes, start, s, w, 64),
        lambda v, s, w: multi_scale_deformable_attn_pytorch(v, shapes, s, w),
        value,
        locations,
        weights,
        rtol=1e-5,
        atol=1e-5,
    )


def test_roi_pool() -> None:
    features = rand(2, 3, 8, 9).relu()  # zeros: the first of equal pixels gets the gradient
    rois = torch.tensor([[0.0, 0, 0, 31, 20], [1, 5, 7, 9, 9], [1, -20, -20, 90, 90], [0, 60, 60, 90, 90], [0, 9, 9, 2, 2]])

    def definition(x: Tensor) -> Tensor:
        out = x.new_zeros(5, 3, 2, 3)
        for r, (image, *box) in enumerate(rois.tolist()):
            x1, y1, x2, y2 = box[0] / 4, box[1] / 4, (box[2] + 1) / 4, (box[3] + 1) / 4
            if x2 <= x1 or y2 <= y1:
                continue
            for i in range(2):
                for j in range(3):
                    top, bottom = math.floor(y1 + i * (y2 - y1) / 2), math.ceil(y1 + (i + 1) * (y2 - y1) / 2)
                    left, right = math.floor(x1 + j * (x2 - x1) / 3), math.ceil(x1 + (j + 1) * (x2 - x1) / 3)
                    window = x[int(image), :, max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)].flatten(1)
                    if window.numel():
                        out[r, :, i, j] = window.max(1)[0]
        return out

    found = ops.roi_pool(features, rois, (2, 3), 1 / 4)
    assert found[3].count_nonzero() == 0 and found[4].count_nonzero() == 0
    same_gradients(lambda x: ops.roi_pool(x, rois[:4], (2, 3), 1 / 4), lambda x: definition(x)[:4], features, rtol=0, atol=1e-6)
    torch.testing.assert_close(found, definition(features), **EXACT)


def test_border_align() -> None:
    features = rand(2, 8, 6, 7, dtype=torch.float64)
    boxes = torch.rand(2, 5, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 9 - 1

    def definition(x: Tensor) -> Tensor:
        out = []
        for image, image_boxes in zip(x, boxes.tolist(), strict=True):
            for x1, y1, x2, y2 in image_boxes:
                across, down = (x2 - x1) / 4, (y2 - y1) / 4
                starts = [(y1, x1, 0, across), (y1, x1, down, 0), (y2, x2, 0, -across), (y2, x2, -down, 0)]
                for side, (y, left, dy, dx) in enumerate(starts):
                    plane = image[2 * side : 2 * side + 2]
                    out.append(torch.stack([sample(plane, y + i * dy, left + i * dx) for i in range(5)]).max(0)[0])
        return torch.stack(out).view(2, 5, 4, 2).permute(0, 3, 1, 2)

    same_gradients(lambda x: ops.border_align(x, boxes, 4), definition, features)


@pytest.mark.parametrize('groups, scale, kernel', [(1, 2, 3), (2, 2, 5), (2, 3, 1)])
def test_carafe(groups: int, scale: int, kernel: int) -> None:
    features, masks = rand(2, 4, 3, 4), rand(2, groups * kernel**2, 3 * scale, 4 * scale, seed=1)

    def definition(x: Tensor, m: Tensor) -> Tensor:
        out = []
        padded = F.pad(x, [kernel // 2] * 4)
        for i in range(3 * scale):
            for j in range(4 * scale):
                y, z = i // scale, j // scale
                window = padded[:, :, y : y + kernel, z : z + kernel].reshape(2, groups, 4 // groups, kernel**2)
                out.append((window * m[:, :, i, j].view(2, groups, 1, kernel**2)).sum(-1).flatten(1))
        return torch.stack(out, -1).view(2, 4, 3 * scale, 4 * scale)

    same_gradients(lambda x, m: ops.carafe(x, m, kernel, groups, scale), definition, features, masks)
    naive = ops.carafe_naive(features, masks, kernel, groups, scale)
    torch.testing.assert_close(naive, definition(features, masks))


def test_carafe_naive_gradients() -> None:
    """mmcv's own function lets its backward run on GPUs only, so the operator is called by itself."""
    features, masks, grad = rand(1, 4, 3, 4), rand(1, 18, 6, 8, seed=1), rand(1, 4, 6, 8, seed=2)
    by_features, by_masks = torch.empty_like(features), torch.empty_like(masks)
    reassembly.carafe_naive_backward(grad, features, masks, by_features, by_masks, 3, 2, 2)
    leaves = features.requires_grad_(), masks.requires_grad_()
    expected = torch.autograd.grad(ops.carafe(*leaves, 3, 2, 2), leaves, grad)
    torch.testing.assert_close((by_features, by_masks), expected, **EXACT)


@pytest.mark.parametrize('padding', [0, 1])
def test_masked_convolution(padding: int) -> None:
    torch.manual_seed(0)
    layer = ops.MaskedConv2d(3, 4, 3, padding=padding).requires_grad_(False)
    image, mask = rand(1, 3, 6, 7), rand(1, 6, 7, seed=1) > 0
    if padding == 0:  # mmcv has the mask of the input's size
        mask[:, 4:], mask[:, :, 5:] = False, False
    expected = layer(image)
    mask_out = mask[:, : expected.shape[2], : expected.shape[3]]
    torch.testing.assert_close(layer(image, mask.float()), expected * mask_out)
    assert layer(image, torch.zeros(1, 6, 7)).count_nonzero() == 0


@pytest.mark.parametrize('stats_mode', ['default', 'N'])
def test_sync_batch_norm_is_batch_norm_in_one_process(stats_mode: str) -> None:
    statistics = [(torch.zeros(3), torch.ones(3)) for _ in range(2)]
    function = SyncBatchNormFunction  # the layer itself needs a process group

    def of_mmcv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return function.apply(x, *statistics[0], weight, bias, 0.1, 1e-5, None, 1, stats_mode)

    def of_torch(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.batch_norm(x, *statistics[1], weight, bias, True, 0.1, 1e-5)

    parameters = torch.tensor([0.5, 1.5, 2.5]), torch.tensor([-1.0, 0.0, 1.0])
    same_gradients(of_mmcv, of_torch, rand(4, 3, 5, 5) * 2 + 1, *parameters, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(*statistics)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(dtype: torch.dtype) -> None:
    """Computed in float32 at least, given back in the type of the input."""
    x = rand(1, 4, 8, 8)
    rois = torch.tensor([[0.0, 1, 1, 6, 7], [0, 0, 2, 3, 3]])
    masks, boxes = rand(1, 9, 16, 16, seed=1), torch.tensor([[0.0, 0, 4, 4], [1, 0, 4, 4], [6, 6, 8, 8]])
    offset = rand(1, 18, 8, 8, seed=2)
    calls: list[tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = [
        (lambda x, r: ops.roi_align(x, r, 2), (x, rois)),
        (lambda x, r: ops.roi_align(x, r, 2, 1.0, 0, 'max'), (x, rois)),
        (lambda x, r: ops.roi_pool(x, r, 2), (x, rois)),
        (lambda x, m: ops.carafe(x, m, 3, 1, 2), (x, masks)),
        (lambda x, o, w: ops.deform_conv2d(x, o, w, 1, 1), (x, offset, rand(4, 4, 3, 3))),
        (lambda x: ops.sigmoid_focal_loss(x[0, 0], torch.arange(8), 2.0, 0.25, None, 'none'), (x,)),
        (lambda b: ops.bbox_overlaps(b, b), (boxes,)),
        (lambda b: ops.nms(b, torch.tensor([0.5, 0.75, 0.25]).to(b), 0.5)[0], (boxes,)),
        (lambda b: ops.soft_nms(b, torch.tensor([0.5, 0.75, 0.25]).to(b), 0.5)[0], (boxes,)),
    ]
    for call, tensors in calls:
        tensors = tuple(t.to(dtype) for t in tensors)
        out = call(*tensors)
        assert out.dtype == dtype
        exact = call(*(t.double() for t in tensors))
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(out.double(), exact, rtol=2 * eps, atol=0 if dtype == torch.float64 else 2e-6)


def test_the_first_of_equal_scores_stays() -> None:
    """mmcv sorts the scores without an order among equal ones; here it is that of the input."""
    boxes, scores = torch.tensor([[0.0, 0, 4, 4]]).repeat(40, 1), torch.tensor([0.5]).repeat(40)
    assert ops.nms(boxes, scores, 0.5)[1].tolist() == [0]
    groups = ops.nms_match(torch.cat([boxes, scores[:, None]], 1), 0.5)
    assert [g.tolist() for g in groups] == [list(range(40))]


def test_offsets_of_a_smaller_image_are_refused() -> None:
    layer = ops.ModulatedDeformConv2d(4, 4, 1)
    with pytest.raises(UserError, match=r'the size of the output, \(8, 8\), but got \(4, 4\)'):
        layer(rand(1, 4, 8, 8), rand(1, 2, 4, 4), rand(1, 1, 4, 4))


def test_without_regions_and_boxes() -> None:
    x = rand(1, 4, 8, 8).requires_grad_()
    rois, boxes = torch.empty(0, 5), torch.empty(0, 4)
    for out in (ops.roi_align(x, rois, 2), ops.roi_align(x, rois, 2, 1.0, 0, 'max'), ops.roi_pool(x, rois, 2)):
        assert out.shape == (0, 4, 2, 2)
        assert torch.autograd.grad(out.sum(), x)[0].count_nonzero() == 0
    for function in (ops.nms, ops.soft_nms):
        dets, kept = function(boxes, torch.empty(0), 0.5)
        assert dets.shape == (0, 5) and kept.shape == (0,) and kept.dtype == torch.long
    assert ops.nms_match(torch.empty(0, 5), 0.5) == []
    assert ops.bbox_overlaps(boxes, torch.rand(3, 4)).shape == (0, 3)
    out = ops.border_align(x, boxes[None], 3)
    assert out.shape == (1, 1, 0, 4)


def test_the_maximum_is_found_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    x, rois = rand(2, 3, 9, 9), torch.tensor([[0.0, 0, 0, 8, 8], [1, 1, 1, 4, 4], [0, 2, 2, 7, 7], [1, 0, 0, 8, 8]])
    whole = ops.roi_align(x, rois, 3, 1.0, 0, 'max'), ops.roi_pool(x, rois, 3)
    monkeypatch.setattr(regions, 'CHUNK', 1)
    torch.testing.assert_close((ops.roi_align(x, rois, 3, 1.0, 0, 'max'), ops.roi_pool(x, rois, 3)), whole, **EXACT)
