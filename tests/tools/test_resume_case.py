"""--resume with a changed config, and work directories that have checkpoints, through the command line."""

import re

import pytest
from test_train_and_test import CONFIGS, REPO, fail, succeed

from mmspike.datasets.shapes import write_shapes

BASE = CONFIGS['mmpretrain'].replace('{base}', str(REPO / 'configs' / '_base_'))
COSINE = """
val_cfg = val_dataloader = val_evaluator = None
param_scheduler = dict(type='CosineAnnealingLR', eta_min=1e-5, T_max={n}, end={n})
train_cfg = dict(by_epoch=True, max_epochs={n})
"""


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    return write_shapes(tmp_path_factory.mktemp('data') / 'shapes', num_train=4, num_val=2, size=64)


def rates(output):
    """Learning rates by (epoch, iteration)."""
    return {place: rate for place, rate in re.findall(r'Epoch\(train\) +(\[\d\]\[\d)/.*? lr: (\S+)', output)}


def test_a_longer_schedule(tmp_path, shapes):
    path, data = tmp_path / 'mmpretrain.py', ['--data-root', shapes]
    path.write_text(BASE + COSINE.format(n=2))
    succeed(tmp_path, 'train.py', path, *data)
    path.write_text(BASE + COSINE.format(n=4))
    message = fail(tmp_path, 'train.py', path, *data)
    assert 'has checkpoints of another training: epoch_2.pth, epoch_1.pth' in message and '--overwrite' in message
    message = fail(tmp_path, 'train.py', path, *data, '--resume')
    assert '- param_scheduler.T_max = 2\n+ param_scheduler.T_max = 4' in message and '--resume-settings config' in message
    resumed = rates(succeed(tmp_path, 'train.py', path, *data, '--resume', '--resume-settings', 'config'))
    fresh = rates(succeed(tmp_path, 'train.py', path, *data, '--overwrite'))
    assert list(resumed) == ['[3][1', '[3][2', '[4][1', '[4][2']
    assert resumed == {place: rate for place, rate in fresh.items() if place >= '[3'} and len(set(fresh.values())) == 4
    assert 'nothing is left to train' in succeed(tmp_path, 'train.py', path, *data, '--resume')


def test_a_config_with_a_nested_dict_and_a_date(tmp_path, shapes):
    date = "__import__('datetime').date(2024, 5, 1)"
    meta = f"metainfo=dict(classes=list('abcd'), source=dict(site='Oslo', year=2024), date={date}),"
    path, options = tmp_path / 'mmpretrain.py', ['--data-root', shapes]
    path.write_text(BASE.replace("type='CustomDataset',", f"type='CustomDataset', {meta}"))
    succeed(tmp_path, 'train.py', path, *options)
    assert 'accuracy/top1' in succeed(
        tmp_path, 'test.py', path, tmp_path / 'work_dirs' / 'mmpretrain' / 'epoch_1.pth', *options
    )
    message = fail(tmp_path, 'train.py', path, *options, '--resume', '--cfg-options', 'optim_wrapper.optimizer.lr=1')
    assert '+ optim_wrapper.optimizer.lr = 1' in message
    output = succeed(tmp_path, 'train.py', path, *options, '--resume', '--cfg-options', 'train_cfg.max_epochs=2')
    assert 'resumed epoch: 1' in output and rates(output).keys() == {'[2][1', '[2][2'}
