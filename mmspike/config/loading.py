"""A model and its test images from a config, without a Runner: nothing is written, images come one at a time."""

import logging
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, load_checkpoint
from torch import Tensor, nn

from mmspike.config.trained_neurons import name_changed_neurons
from mmspike.models.checkpoints import check_checkpoint_fits


def model_config(cfg: Config) -> ConfigDict:
    """A copy of the config's model, with the preprocessor that stands beside it if it has none, as mmengine's Runner does."""
    model = deepcopy(cfg.model)
    if model.get('data_preprocessor') is None and cfg.get('data_preprocessor') is not None:
        model.data_preprocessor = deepcopy(cfg.data_preprocessor)
    return model


def build_model(cfg: Config, checkpoint: str | None, device: str | None = None) -> nn.Module:
    """The config's model in evaluation mode, with a checkpoint that must fit entirely, or freshly initialised weights.

    Args:
        device: Default: the accelerator if there is one.

    Raises:
        UserError: The checkpoint does not fit, see :func:`mmspike.models.checkpoints.check_checkpoint_fits`.
    """
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    model = MODELS.build(model_config(cfg))
    if checkpoint is None:
        logging.disable(logging.INFO)  # it would list every parameter
        try:
            model.init_weights()
        finally:
            logging.disable(logging.NOTSET)
    else:
        check_checkpoint_fits(model, checkpoint)
        meta = load_checkpoint(model, checkpoint, map_location='cpu').get('meta', {})
        name_changed_neurons(cfg, meta, checkpoint)
        if 'dataset_meta' in meta:
            model.dataset_meta = meta['dataset_meta']  # where the hosts look for names of classes
    return model.to(device or get_device()).eval()


def _test_data(cfg: Config) -> tuple[Any, Callable]:
    """Dataset and collate function of the config's test loader."""
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    loader_cfg = deepcopy(cfg.test_dataloader)
    loader_cfg.pop('prefetch_factor', None)
    loader_cfg.update(batch_size=1, num_workers=0, persistent_workers=False)
    loader = Runner.build_dataloader(loader_cfg)
    return loader.dataset, loader.collate_fn


def sample_images(cfg: Config, number: int) -> Iterator[dict]:
    """Batches of one image as the config's test loader makes them: ``number`` of them, evenly spaced over the data set."""
    dataset, collate = _test_data(cfg)
    number = min(number, len(dataset))
    for i in range(number):
        yield collate([dataset[i * len(dataset) // number]])


def sample_image(cfg: Config, index: int) -> dict:
    """Batch of the one image ``index``.

    Raises:
        ValueError: There is no such image.
    """
    dataset, collate = _test_data(cfg)
    if not 0 <= index < len(dataset):
        raise ValueError(f'the test set has {len(dataset)} images, 0 to {len(dataset) - 1}, got {index}')
    return collate([dataset[index]])


def picture(model: nn.Module, batch: dict) -> np.ndarray | None:
    """The first image of a batch, uint8 RGB [H, W, 3], padded as the network sees it; None for what is not a picture."""
    image = batch['inputs'][0]
    if not isinstance(image, Tensor) or image.dim() != 3 or image.shape[0] not in (1, 3) or image.dtype != torch.uint8:
        return None
    height, width = model.data_preprocessor(deepcopy(batch))['inputs'].shape[-2:]
    image = torch.nn.functional.pad(image, (0, width - image.shape[-1], 0, height - image.shape[-2]))
    return image.expand(3, -1, -1).flip(0).permute(1, 2, 0).contiguous().cpu().numpy()  # pipelines load BGR


def random_batch(scope: str | None, channels: int, size: Sequence[int], steps: int | None = None) -> dict:
    """A batch of one random image uint8 [C, H, W] for ``test_step`` of a model of mmdet, mmseg or mmpretrain.

    Args:
        scope: The config's ``default_scope``.
        channels: Channels of the image.
        size: Its height and width.
        steps: Time steps of a recording, whose frames are float32 [T, C, H, W]; None: an image.

    Raises:
        ValueError: The scope is none of these.
    """
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (channels, *size), generator=generator, dtype=torch.uint8)
    if steps is not None:
        image = image.float().expand(steps, -1, -1, -1)
    shape = tuple(size)
    meta = dict(img_shape=shape, ori_shape=shape, pad_shape=shape, batch_input_shape=shape, scale_factor=(1.0, 1.0), img_id=0)
    meta |= dict(flip=False, border=np.zeros(4))  # the border is CenterNet's
    if scope == 'mmdet':
        from mmdet.structures import DetDataSample as Sample
    elif scope == 'mmseg':
        from mmseg.structures import SegDataSample as Sample
    elif scope == 'mmpretrain':
        from mmpretrain.structures import DataSample as Sample
    else:
        raise ValueError(f'a random image is for models of mmdet, mmseg and mmpretrain; default_scope is {scope!r}')
    # lists are views of an image to mmpretrain's self-supervised models
    return dict(inputs=image[None] if scope == 'mmpretrain' else [image], data_samples=[Sample(metainfo=meta)])


def sees_events(model: nn.Module) -> bool:
    """True for a model of event frames [T, B, C, H, W]."""
    return any(c.__name__ == 'EventDataPreprocessor' for c in type(model.data_preprocessor).__mro__)


def random_batch_for(cfg: Config, model: Any, size: Sequence[int]) -> dict:
    """:func:`random_batch` with the channels and time steps that ``model`` takes."""
    channels = getattr(getattr(model, 'backbone', None), 'in_channels', 3)
    return random_batch(cfg.get('default_scope'), channels, size, model.backbone.T if sees_events(model) else None)
