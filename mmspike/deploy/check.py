"""Outputs of a network before and after deployment, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mmspike.analysis.flips import inputs_of_its_type, postprocessing_of_float64
from mmspike.models.inspection import evaluating


def output_tensors(item: object, name: str = '') -> Iterator[tuple[str, Tensor]]:
    """Every tensor in the outputs of a model, with its path: data samples, instances, tuples and dicts are opened."""
    if isinstance(item, Tensor):
        yield name, item
    elif isinstance(item, BaseDataElement):
        for key, value in item.items():
            yield from output_tensors(value, f'{name}.{key}')
    elif isinstance(item, Mapping):
        for key, value in item.items():
            yield from output_tensors(value, f'{name}.{key}')
    elif isinstance(item, Sequence) and not isinstance(item, str):
        for i, value in enumerate(item):
            yield from output_tensors(value, f'{name}[{i}]')


@dataclass
class Difference:
    """The distance between two outputs.

    Attributes:
        largest: Largest absolute difference of the floating-point outputs; infinite where their shapes differ.
        where: Path of the output that has it.
        flipped: Labels and pixels of masks that differ.
        total: How many of those there are.
        found: Boxes of the first that the second has, too, at any place in its list: IoU 0.9 or more.
        boxes: Boxes of the first.
    """

    largest: float = 0.0
    where: str = ''
    flipped: int = 0
    total: int = 0
    found: int = 0
    boxes: int = 0

    def __str__(self) -> str:
        text = f'largest difference {self.largest:.2g}' + (f' (in {self.where})' if self.largest else '')
        text += f', {self.flipped} of {self.total} labels and mask pixels differ' if self.total else ''
        # rounding swaps boxes of nearly the same score, which are then far apart at their place in the list
        other_order = self.boxes and (self.found < self.boxes or self.largest > 1)
        return text + (f'; {self.found} of {self.boxes} boxes are there at any place in the list' if other_order else '')


def found_again(boxes: Tensor, others: Tensor, overlap: float = 0.9) -> int:
    """How many of the boxes [N, 4] have one of the others [M, 4] with at least this IoU."""
    from torchvision.ops import box_iou  # not at the top, since it costs a second

    if not len(boxes) or not len(others):
        return 0
    return int((box_iou(boxes.double(), others.double()).amax(1) >= overlap).sum())


def difference(a: object, b: object) -> Difference:
    """Compares the outputs ``a`` and ``b`` of two models.

    Example:
        >>> import torch
        >>> from mmspike.deploy import difference
        >>> print(difference(dict(logits=torch.tensor([1.0, 2.0])), dict(logits=torch.tensor([1.0, 2.5]))))
        largest difference 0.5 (in logits)
    """
    found = Difference()
    pairs = dict(output_tensors(a)), dict(output_tensors(b))
    for name in dict.fromkeys((*pairs[0], *pairs[1])):
        x, y = (p.get(name) for p in pairs)
        if name.endswith('.bboxes') and x is not None and y is not None:
            found.boxes += len(x)
            found.found += found_again(x, y)
        if x is None or y is None or x.shape != y.shape:
            sizes = ' against '.join('nothing' if z is None else str(tuple(z.shape)) for z in (x, y))
            found.largest, found.where = float('inf'), f'{name.lstrip(".")}: {sizes}'
        elif x.is_floating_point():
            apart = torch.where(x == y, 0.0, (x.double() - y.double()).abs()).nan_to_num(nan=float('inf'), posinf=float('inf'))
            gap = apart.max().item() if x.numel() else 0.0
            if gap > found.largest:
                found.largest, found.where = gap, name.lstrip('.')
        else:
            found.flipped += int((x != y).sum())
            found.total += x.numel()
    return found


def compare(model: nn.Module, deployed: nn.Module, batch: dict) -> Difference:
    """Compares the predictions of two networks for a batch, boxes, scores, masks and logits included.

    In float64 (both networks cast before folding) nothing but an error makes a difference; in float32 a membrane that rounding
    moves across a threshold does, too.

    Example:
        >>> import torch
        >>> from mmpretrain.models import ImageClassifier
        >>> from mmpretrain.structures import DataSample
        >>> from mmspike.deploy import compare, fuse
        >>> arch = dict(dims=(4, 8, 8), depths=(2, 1, 1))
        >>> vgg = dict(type='mmspike.SpikingVGG', arch=arch, T=2, temporal_output='keep')
        >>> head = dict(type='mmspike.SpikingLinearClsHead', num_classes=10, in_channels=8)
        >>> model = ImageClassifier(vgg, head=head)
        >>> batch = dict(inputs=[torch.full((3, 32, 32), 255.0)], data_samples=[DataSample()])
        >>> compare(model.double(), fuse(model), batch).largest < 1e-9
        True
    """
    outputs = []
    for m in (model, deployed):
        with evaluating(m), inputs_of_its_type(m), postprocessing_of_float64():
            outputs.append(m.test_step(deepcopy(batch)))
    return difference(*outputs)
