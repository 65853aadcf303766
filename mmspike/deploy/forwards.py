"""Forwards on training images, by which a network is looked at and calibrated: the same regions in each of them."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from mmengine.config import Config
from mmengine.runner import Runner, set_random_seed
from torch import nn

from mmspike.models.inspection import evaluating


def training_images(cfg: Config, number: int) -> Iterator[dict]:
    """Batches of one training image, evenly spaced over the data set, as the training pipeline makes them with seed 0."""
    loader_cfg = deepcopy(cfg.train_dataloader)
    loader_cfg.pop('prefetch_factor', None)
    loader_cfg.update(num_workers=0, persistent_workers=False)
    loader: Any = Runner.build_dataloader(loader_cfg)
    set_random_seed(0)
    number = min(number, len(loader.dataset))
    for i in range(number):
        yield loader.collate_fn([loader.dataset[i * len(loader.dataset) // number]])


def regions(model: nn.Module, image: dict) -> list | None:
    """The regions that the heads of a detector of two stages read: what it finds in the images, and its proposals behind.

    Args:
        model: The trained network.
        image: What its data preprocessor gave.

    Returns:
        Of each image an ``InstanceData`` with ``bboxes``; None for a model without proposals of its own.
    """
    if not (getattr(model, 'with_rpn', False) and hasattr(model, 'roi_head')):
        return None
    samples = image['data_samples']
    with torch.no_grad(), evaluating(model):
        features = model.extract_feat(image['inputs'])
        proposals = model.rpn_head.predict(features, samples, rescale=False)
        found = model.roi_head.predict(features, proposals, samples, rescale=False)
    return [type(p)(bboxes=torch.cat([f.bboxes, p.bboxes])) for p, f in zip(proposals, found, strict=True)]


def forwards(model: nn.Module, images: list[dict], given: list[list | None]) -> list[Callable[[], object]]:
    """A forward of a model for each image.

    A detector's heads read the given regions and not those that it proposes itself. These change with every neuron: masks of
    other regions have other means, which say nothing about the neuron. mmdet's mask heads read the first hundred, those that
    are found and not mere proposals, as they do at inference.

    Args:
        images: What the data preprocessor gave.
        given: Of each image the :func:`regions` of the trained network.
    """
    return [partial(_forward, model, image, boxes) for image, boxes in zip(images, given, strict=True)]


def _forward(model: Any, image: dict, boxes: list | None) -> object:
    if boxes is None:
        return model(**image, mode='tensor')
    head = model.rpn_head

    def predict(features, *args, **kwargs):
        head(features)
        return boxes

    head.predict = predict  # of this object alone, in front of its class's
    try:
        return model(**image, mode='tensor')
    finally:
        del head.predict
