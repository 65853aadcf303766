"""Calls of mmcv's operators that compiled mmcv knows on the CPU, with inputs from a seed.

Inputs come from numpy's frozen generator, so that only results have to be stored.
"""

from collections.abc import Callable

import numpy as np
import torch
from mmcv import ops
from torch import Tensor

Results = dict[str, Tensor]


def uniform(rng: np.random.RandomState, *shape: int, low: float = -1, high: float = 1) -> Tensor:
    return torch.from_numpy(rng.uniform(low, high, shape).astype('float32'))


def random_boxes(rng: np.random.RandomState, count: int, size: float = 60) -> tuple[Tensor, Tensor]:
    """Boxes that overlap much [N, 4], and scores [N]."""
    corner, extent = uniform(rng, count, 2, low=0, high=size), uniform(rng, count, 2, low=0, high=size / 2)
    return torch.cat([corner, corner + extent], 1), uniform(rng, count, low=0)


def random_rois(rng: np.random.RandomState, count: int, images: int, size: float) -> Tensor:
    """Regions [N, 5], partly outside of the image, one of them without extent."""
    boxes = random_boxes(rng, count, size)[0] - size / 8
    boxes[0, 2:] = boxes[0, :2]
    return torch.cat([torch.from_numpy(rng.randint(0, images, (count, 1))).float(), boxes], 1)


def with_gradients(function: Callable[..., Tensor], rng: np.random.RandomState, **leaves: Tensor) -> Results:
    """The output and the gradients by all leaves, for a random gradient of the output."""
    for leaf in leaves.values():
        leaf.requires_grad_()
    out = function(**leaves)
    grad = uniform(rng, *out.shape)
    grads = torch.autograd.grad(out, list(leaves.values()), grad)
    return dict(out=out.detach(), **{f'by_{name}': x for name, x in zip(leaves, grads, strict=True)})


def nms(rng: np.random.RandomState, offset: int) -> Results:
    boxes, scores = random_boxes(rng, rng.randint(1, 60))
    dets, kept = ops.nms(boxes, scores, rng.choice([0.3, 0.5, 0.7]), offset=offset)
    return dict(dets=dets, kept=kept)


def soft_nms(rng: np.random.RandomState, method: str) -> Results:
    boxes, scores = random_boxes(rng, rng.randint(1, 60))
    offset, threshold, sigma = rng.randint(2), rng.choice([0.3, 0.5]), rng.choice([0.3, 0.5])
    scores = (scores * 20).round() / 20  # some are equal: unlike NMS, soft-NMS orders these by a rule of its own
    dets, kept = ops.soft_nms(boxes, scores, threshold, sigma, rng.choice([1e-3, 0.1]), method, offset)
    return dict(dets=dets, kept=kept)


def nms_match(rng: np.random.RandomState) -> Results:
    boxes, scores = random_boxes(rng, rng.randint(1, 60))
    groups = ops.nms_match(torch.cat([boxes, scores[:, None]], 1), rng.choice([0.3, 0.5]))
    return dict(indices=torch.cat(groups), lengths=torch.tensor([len(g) for g in groups]))


def bbox_overlaps(rng: np.random.RandomState) -> Results:
    count, offset = rng.randint(1, 20), rng.randint(2)
    first, second = random_boxes(rng, count)[0], random_boxes(rng, count)[0]
    pairs = [(mode, aligned) for mode in ('iou', 'iof') for aligned in (False, True)]
    return {f'{mode}_{aligned}': ops.bbox_overlaps(first, second, mode, aligned, offset) for mode, aligned in pairs}


def roi_align(rng: np.random.RandomState, mode: str) -> Results:
    shape = rng.randint(1, 3), rng.randint(1, 4), rng.randint(2, 14), rng.randint(2, 14)
    rois = random_rois(rng, rng.randint(1, 8), shape[0], 8 * max(shape[2:]))
    size, ratio, aligned = (rng.randint(1, 4), rng.randint(1, 4)), rng.choice([0, 1, 2]), bool(rng.randint(2))
    return with_gradients(
        lambda input: ops.roi_align(input, rois, size, 1 / 8, int(ratio), mode, aligned), rng, input=uniform(rng, *shape)
    )


def geometry(rng: np.random.RandomState) -> dict:
    return dict(
        kernel=(rng.randint(1, 4), rng.randint(1, 4)),
        stride=(rng.randint(1, 3), rng.randint(1, 3)),
        padding=(rng.randint(3), rng.randint(3)),
        dilation=(rng.randint(1, 3), rng.randint(1, 3)),
        groups=int(rng.choice([1, 2])),
        deform_groups=int(rng.choice([1, 2])),
    )


def deformed(
    rng: np.random.RandomState, kernel: tuple, groups: int, deform_groups: int, wider: int = 0, **steps: tuple
) -> dict[str, Tensor]:
    input = uniform(rng, rng.randint(1, 3), 4, rng.randint(5, 10), rng.randint(5, 10))
    weight = uniform(rng, 6, 4 // groups, *kernel)
    size = [side + wider for side in torch.nn.functional.conv2d(input[:, : weight.shape[1]], weight, **steps).shape[-2:]]
    offset = uniform(rng, input.shape[0], 2 * deform_groups * kernel[0] * kernel[1], *size, low=-3, high=3)
    return dict(input=input, offset=offset, weight=weight)


def deform_conv(rng: np.random.RandomState) -> Results:
    g = geometry(rng)
    tensors = deformed(rng, **g)
    steps = g['stride'], g['padding'], g['dilation'], g['groups'], g['deform_groups']
    return with_gradients(lambda input, offset, weight: ops.deform_conv2d(input, offset, weight, *steps), rng, **tensors)


def modulated_deform_conv(rng: np.random.RandomState, bias: bool, wider: int = 0) -> Results:
    g = geometry(rng)
    tensors = deformed(rng, **g, wider=wider)
    tensors['mask'] = uniform(rng, *tensors['offset'][:, ::2].shape, low=0)
    if bias:
        tensors['bias'] = uniform(rng, 6)
    steps = g['stride'], g['padding'], g['dilation'], g['groups'], g['deform_groups']

    def convolve(input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor, bias: Tensor | None = None) -> Tensor:
        return ops.modulated_deform_conv2d(input, offset, mask, weight, bias, *steps)

    return with_gradients(convolve, rng, **tensors)


def psa_mask(rng: np.random.RandomState, kind: str) -> Results:
    mask = 2 * rng.randint(1, 4) - 1, 2 * rng.randint(1, 4) - 1
    input = uniform(rng, rng.randint(1, 3), mask[0] * mask[1], rng.randint(1, 6), rng.randint(1, 6))
    return with_gradients(ops.PSAMask(kind, mask), rng, input=input)


#: name -> call, and how far results may lie from the stored ones: relative to the largest one; 0 is bit for bit
CASES: dict[str, tuple[Callable[[np.random.RandomState], Results], float]] = {
    'nms': (lambda rng: nms(rng, 0), 0),
    'nms, offset 1': (lambda rng: nms(rng, 1), 0),
    'soft_nms, naive': (lambda rng: soft_nms(rng, 'naive'), 0),
    'soft_nms, linear': (lambda rng: soft_nms(rng, 'linear'), 0),
    'soft_nms, gaussian': (lambda rng: soft_nms(rng, 'gaussian'), 1e-6),
    'nms_match': (nms_match, 0),
    'bbox_overlaps': (bbox_overlaps, 0),
    'roi_align, average': (lambda rng: roi_align(rng, 'avg'), 0),
    'roi_align, maximum': (lambda rng: roi_align(rng, 'max'), 1e-6),
    'deform_conv2d': (deform_conv, 1e-5),
    'modulated_deform_conv2d': (lambda rng: modulated_deform_conv(rng, False), 1e-5),
    'modulated_deform_conv2d, bias': (lambda rng: modulated_deform_conv(rng, True), 1e-5),
    'modulated_deform_conv2d, offsets of a larger image': (lambda rng: modulated_deform_conv(rng, True, 2), 1e-5),
    'psa_mask, collect': (lambda rng: psa_mask(rng, 'collect'), 0),
    'psa_mask, distribute': (lambda rng: psa_mask(rng, 'distribute'), 0),
}
SEEDS = 6


def results(case: str, seed: int) -> dict[str, np.ndarray]:
    """Outputs and gradients of one call."""
    return {name: x.numpy() for name, x in CASES[case][0](np.random.RandomState(seed)).items()}


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Largest difference, relative to the largest value of ``b``; infinite for other shapes or whole numbers that differ."""
    if a.shape != b.shape or a.dtype != b.dtype:
        return np.inf
    if np.array_equal(a, b, equal_nan=a.dtype.kind == 'f'):
        return 0.0
    if a.dtype.kind != 'f':
        return np.inf
    return float(np.abs(a - b).max() / max(np.abs(b).max(), np.finfo(b.dtype).tiny))
