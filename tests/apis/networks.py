"""Tiny networks of all hosts as a user has them: a config file and a checkpoint file."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from usage import tiny

from mmspike.config.data_paths import config_datasets
from mmspike.datasets.shapes import write_shapes

HOSTS = ('mmdet', 'mmseg', 'mmpretrain')


@dataclass(frozen=True)
class Network:
    config: str
    checkpoint: str
    data: Path
    classes: tuple[str, ...]

    def files(self) -> tuple[str, str]:
        return self.config, self.checkpoint


def write_config(cfg: Config, path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{key} = {value!r}\n' for key, value in cfg.to_dict().items()), encoding='utf-8')
    return str(path)


def write_network(folder: Path, host: str, neuron: str, data: Path, channels: int = 3) -> Network:
    """A spiking network whose neurons fire, on drawn shapes; of one channel it sees them in grey."""
    cfg = tiny.config(host, neuron, data)
    if channels == 1:
        _take_grey(cfg)
    names = ('background', *tiny.CLASSES) if host == 'mmseg' else tuple(tiny.CLASSES)
    model = tiny.build(cfg)
    config = write_config(cfg, folder / f'{host}_{neuron}_{channels}.py')
    DefaultScope._instance_dict.clear()
    return Network(config, tiny.save(model, folder / f'{host}_{neuron}_{channels}.pth', names), data, names)


def _take_grey(cfg: Config) -> None:
    cfg.model.backbone.in_channels = 1
    preprocessor = cfg.model.get('data_preprocessor') or cfg.data_preprocessor
    preprocessor.update(mean=preprocessor.mean[:1], std=preprocessor.std[:1])
    for key in ('bgr_to_rgb', 'to_rgb'):
        preprocessor.pop(key, None)
    for dataset in config_datasets(cfg):
        for transform in dataset.pipeline:
            if transform['type'].endswith('LoadImageFromFile'):
                transform['color_type'] = 'grayscale'


def networks_in(folder: Path) -> Callable[..., Network]:
    """``network(host, neuron, channels)``: each written once, with one set of drawn shapes."""
    shapes = write_shapes(folder / 'shapes', num_train=4, num_val=3, size=96)
    return cache(lambda host, neuron='SFA', channels=3: write_network(folder, host, neuron, shapes, channels))


def change_config(network: Network, path: Path, **options) -> str:
    """The network's config with other values; keys with two underscores for dots."""
    cfg = Config.fromfile(network.config)
    cfg.merge_from_dict({key.replace('__', '.'): value for key, value in options.items()})
    return write_config(cfg, path)


def change_checkpoint(network: Network, path: Path, **changes) -> str:
    """The network's checkpoint with other entries, None for none."""
    content = torch.load(network.checkpoint, weights_only=False) | changes
    torch.save({key: value for key, value in content.items() if value is not None}, path)
    return str(path)
