"""--backbone of tools/train.py and tools/test.py, and tools/misc/swap_backbone.py."""

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmspike.datasets.shapes import write_shapes

pytest.importorskip('mmpretrain')

SMALL = 'mmspike.ESpikeFormer,arch=dict(dims=[8, 16, 24, 32], depths=(1, 1, 1, 1, 1), num_heads=4)'
CONFIG = """
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier', backbone=dict(type='ResNet', depth=18, init_cfg=dict(type='Pretrained', checkpoint='no.pth')),
    neck=dict(type='GlobalAveragePooling'), head=dict(type='LinearClsHead', num_classes=4, in_channels=512),
)
data_preprocessor = dict(num_classes=4, mean=[123, 116, 103], std=[58, 57, 57], to_rgb=True)
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True), num_batch_per_epoch=2,
    dataset=dict(type='CustomDataset', data_root='{root}', data_prefix='classes/train', pipeline=pipeline))
val_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='{root}', data_prefix='classes/val', pipeline=pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=(1,))
test_evaluator = val_evaluator
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3))
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = dict()
test_cfg = dict()
load_from = 'resnet.pth'
"""


@pytest.fixture
def config(tmp_path):
    write_shapes(tmp_path / 'shapes', num_train=4, num_val=2, size=64)
    path = tmp_path / 'resnet18.py'
    path.write_text(CONFIG.replace('{root}', str(tmp_path / 'shapes')))
    return path


def test_train_and_test(config, tmp_path, run_tool, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ['--backbone', SMALL, '--spiking-heads']
    result = run_tool('train.py', config, *options)
    assert result.returncode == 0, result.stderr
    assert '- load_from = ' in result.stdout and "+ model.head.type = 'mmspike.SpikingLinearClsHead'" in result.stdout
    (work,) = (tmp_path / 'work_dirs').iterdir()
    assert work.name.startswith('resnet18_ESpikeFormer-arch-dict-dims-8-16-24-32')
    result = run_tool('test.py', config, work / 'epoch_1.pth', *options)
    assert result.returncode == 0, result.stderr
    # a checkpoint of the swapped model is none of the config's own
    result = run_tool('test.py', config, work / 'epoch_1.pth')
    assert result.returncode == 1 and 'is of another architecture than the config' in result.stderr


def test_written_config(config, tmp_path, run_tool):
    out = tmp_path / 'new' / 'swapped.py'
    result = run_tool('misc/swap_backbone.py', config, '-b', SMALL, '-o', out)
    assert result.returncode == 0, result.stderr
    assert f'{config} with {SMALL}:' in result.stdout and f'Written to {out}' in result.stdout
    cfg = Config.fromfile(out)
    assert cfg.custom_imports == dict(imports=['mmspike'], allow_failed_imports=False)
    assert cfg.load_from is None and cfg.model.head.in_channels == 32
    init_default_scope('mmpretrain')
    assert type(MODELS.build(cfg.model).backbone).__name__ == 'ESpikeFormer'


@pytest.mark.parametrize(
    ('args', 'message'),
    [
        (['-b', 'mmspike.ESpikeFormer:xxl', '-o', 'x.py'], "has no arch 'xxl'"),
        (['-b', SMALL, '-o', 'x.yaml'], 'expected a file name that ends in .py'),
    ],
)
def test_refusals_are_messages(config, run_tool, args, message):
    result = run_tool('misc/swap_backbone.py', config, *args)
    assert result.returncode == 1 and message in result.stderr


def test_options_need_each_other_and_names_are_checked(config, run_tool):
    result = run_tool('train.py', config, '--spiking-heads')
    assert result.returncode == 1 and 'add --backbone' in result.stderr
    result = run_tool('test.py', 'mmdet::retinanet/none.py', 'x.pth')
    assert result.returncode == 1 and 'mmdet has no retinanet/none.py in its configs' in result.stderr
