"""Corrupt images: an error that names the file, or a counted skip."""

import json
import logging

import cv2
import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS, TRANSFORMS
from mmengine.runner import Runner

from mmspike.datasets import LoadImageFromFile
from mmspike.utils.errors import UserError

CORRUPT = {
    'empty.png': b'',
    'text.jpg': b'no image at all',
    'truncated.png': cv2.imencode('.png', np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8))[1].tobytes()[:900],
}  # fmt: skip


@pytest.fixture
def images(tmp_path):
    """Six readable images and three corrupt ones."""
    for number in range(6):
        cv2.imwrite(str(tmp_path / f'{number}.png'), np.full((8, 8, 3), number, np.uint8))
    for name, content in CORRUPT.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize('name', [*CORRUPT, 'missing.png'])
def test_error_names_the_file(images, name):
    with pytest.raises(ValueError, match=rf'cannot load image .*{name}.*on_error'):
        LoadImageFromFile()(dict(img_path=str(images / name)))


def test_the_suffix_of_a_missing_image_is_named(images):
    with pytest.raises(UserError, match='3.jpg .*there is 3.png: the suffix is img_suffix'):
        LoadImageFromFile()(dict(img_path=str(images / '3.jpg')))


@pytest.mark.parametrize('name', [*CORRUPT, 'missing.png'])
def test_skip_is_counted(images, name, caplog):
    load = LoadImageFromFile(on_error='skip')
    assert load(dict(img_path=str(images / name))) is None
    assert load.skipped.total() == 1
    assert load(dict(img_path=str(images / '3.png')))['img'].mean() == 3
    assert load.skipped.total() == 1


def test_arguments():
    with pytest.raises(ValueError, match="on_error='ignore'.*raise.*skip"):
        LoadImageFromFile(on_error='ignore')
    with pytest.raises(TypeError, match='ignore_empty'):
        LoadImageFromFile(ignore_empty=True)
    assert LoadImageFromFile(to_float32=True).to_float32


@DATASETS.register_module()
class LoadingDataset(BaseDataset):
    def load_data_list(self):
        with open(self.ann_file) as file:
            return [dict(img_path=path) for path in json.load(file)]


@TRANSFORMS.register_module()
class LoadingPack:
    def __call__(self, results):
        return dict(inputs=torch.from_numpy(results['img']).float().mean())


@MODELS.register_module()
class LoadingModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def forward(self, inputs, mode):
        return dict(loss=self.weight * torch.stack(inputs).mean())


@pytest.mark.parametrize('workers,persistent', [(0, False), (2, False), (2, True)])
def test_count_is_reported_every_epoch_over_all_workers(images, workers, persistent):
    (images / 'annotations.json').write_text(json.dumps([str(path) for path in sorted(images.glob('*.*g'))]))
    pipeline = [dict(type='mmspike.LoadImageFromFile', on_error='skip'), dict(type='LoadingPack')]
    runner = Runner(
        model=dict(type='LoadingModel'),
        work_dir=str(images),
        train_dataloader=dict(
            batch_size=1,
            num_workers=workers,
            persistent_workers=persistent,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(
                type='RepeatDataset',
                times=2,
                dataset=dict(
                    type='LoadingDataset', ann_file=str(images / 'annotations.json'), pipeline=pipeline, max_refetch=100
                ),
            ),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=2),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        custom_hooks=[dict(type='mmspike.SkippedImagesHook'), dict(type='mmspike.IterationSeedHook')],
        default_hooks=dict(checkpoint=None),
        randomness=dict(seed=1),
        experiment_name=f'{images.name}',
    )
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    runner.logger.addHandler(handler)
    runner.train()
    counts = [int(text.split()[0]) for text in records if 'corrupt files skipped' in text]
    load = runner.train_dataloader.dataset.dataset.pipeline.transforms[0]
    assert len(counts) == 2 and counts[0] < counts[1] == load.skipped.total()
    # each of the 3 corrupt files comes twice an epoch; what is drawn in its place may be corrupt again
    assert counts[0] >= 6
    if workers == 0:
        assert sum(text.startswith('Skipped image') for text in records) == counts[1]
