"""The benchmark of conversions measures, trains on, and writes a table and a picture."""

import json

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

MODEL = dict(
    type='ImageClassifier',
    backbone=dict(type='ResNet_CIFAR', depth=18, stem_channels=2, base_channels=2, out_indices=(3,)),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=16),
)


def test_it_measures_and_trains_on(tmp_path, repo, run_tool):
    pytest.importorskip('mmpretrain')
    for i in range(4):
        for part in ('train', 'val'):
            folder = tmp_path / 'data' / part / 'ab'[i % 2]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.random.RandomState(i).randint(0, 255, (32, 32, 3), np.uint8)).save(folder / f'{i}.png')
    off = dict(num_workers=0, persistent_workers=False)
    settings = dict(
        _base_=[f'{repo}/configs/_base_/datasets/cifar10_folders.py', f'{repo}/configs/_base_/runtime_mmpretrain.py'],
        model=MODEL,
        train_cfg=dict(type='EpochBasedTrainLoop', max_epochs=10),
        val_cfg=dict(),
        test_cfg=dict(),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1)),
        train_dataloader=dict(batch_size=4, **off),
        val_dataloader=off,
        test_dataloader=off,
    )
    config, checkpoint, out = tmp_path / 'resnet.py', tmp_path / 'resnet.pth', tmp_path / 'out'
    config.write_text('\n'.join(f'{key} = {value!r}' for key, value in settings.items()))
    init_default_scope('mmpretrain')
    torch.save(dict(state_dict=MODELS.build(MODEL).state_dict()), checkpoint)
    options = ['--out', out, '--levels', 2, '--finetune', 2, '--images', 2, '--energy-images', 1]
    options += ['--device', 'cpu', '--data-root', tmp_path / 'data']
    done = run_tool('benchmarks/conversion.py', config, checkpoint, *options)
    assert done.returncode == 0, done.stderr
    rows = json.loads((out / 'conversion.json').read_text())['rows']
    assert list(rows) == ['ordinary', 'converted, D = 2', 'trained, D = 2']
    assert all(0 <= row['scores']['top1'] <= 100 and row['milliseconds'] > 0 for row in rows.values())
    assert rows['converted, D = 2']['float_fed'] == ['backbone.conv1 (conv)', 'head.fc (linear)']
    assert 0 < rows['converted, D = 2']['energy_mj'] < rows['ordinary']['energy_mj']
    assert (out / 'conversion.png').stat().st_size > 1000
    table = (out / 'conversion.md').read_text().splitlines()
    assert [line.split(' | ')[0] for line in table[2:]] == ['| ordinary', '| converted, D = 2', '| trained, D = 2']
