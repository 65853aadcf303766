"""Whatever a training puts into its checkpoints is read by the run that goes on, or stops the training before it begins."""

import datetime
import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, DefaultScope
from mmengine.runner import Runner
from torch import nn

from mmspike.utils.checkpoint import read_checkpoint
from mmspike.utils.errors import UserError

from .small_run import config, train

VALUES = dict(plain=dict(seen=Path('a.png'), empty=np.zeros(0)), function=[len], layer=nn.ReLU())


@HOOKS.register_module()
class PutHook(Hook):
    """Puts something into the message hub, or into the checkpoint, at a moment of its own."""

    priority = 'LOWEST'

    def __init__(self, moment, value):
        setattr(self, moment, functools.partial(self.put, VALUES[value]))

    def put(self, value, runner, *args, checkpoint=None, **kwargs):
        if checkpoint is None:
            runner.message_hub.update_info('mine', value)
        else:
            checkpoint['mine'] = value


NESTED = dict(
    classes=('cat', 'dog'),
    source=dict(site='Oslo', years=[dict(year=2024)]),
    date=datetime.date(2024, 5, 1),
    folder=Path('data'),
    kinds={'a', 'b'},
)


def test_what_a_config_can_hold_is_read_by_the_run_that_goes_on(tmp_path, capsys):
    put = [dict(type='PutHook', moment='before_train_epoch', value='plain')]
    train(config(tmp_path, NESTED, put))
    meta = read_checkpoint(str(tmp_path / 'epoch_2.pth'))['meta']['dataset_meta']
    assert meta == NESTED | dict(date='2024-05-01', folder='data')
    assert type(meta['source']) is dict and type(meta['source']['years'][0]) is dict
    capsys.readouterr()
    runner = train(config(tmp_path, NESTED, max_epochs=3), 'auto')
    assert runner.epoch == 3 and runner.message_hub.get_info('mine')['seen'] == 'a.png'
    assert 'The dataset metainfo' not in capsys.readouterr().out  # mmengine has nothing to say about another data set


def test_another_data_set_is_still_noticed(tmp_path, capsys):
    train(config(tmp_path, NESTED, max_epochs=1))
    train(config(tmp_path, NESTED | dict(classes=('dog', 'cat'))), 'auto')
    assert 'The dataset metainfo from the resumed checkpoint is different' in capsys.readouterr().out


def test_a_schedule_with_a_function_goes_on(tmp_path):
    schedule = dict(type='OneCycleLR', eta_max=0.5, total_steps=8, end=8, by_epoch=False)
    whole = train(config(tmp_path / 'whole', scheduler=schedule, max_epochs=4))
    train(config(tmp_path / 'parts', scheduler=schedule, max_epochs=2))
    parts = train(config(tmp_path / 'parts', scheduler=schedule, max_epochs=4), 'auto')
    assert parts.optim_wrapper.get_lr() == whole.optim_wrapper.get_lr()
    assert torch.equal(parts.model.layer.weight, whole.model.layer.weight)


@pytest.mark.parametrize('moment', ['before_run', 'before_train', 'before_train_iter'])
def test_what_cannot_be_read_stops_the_run_at_its_beginning(tmp_path, moment):
    put = [dict(type='PutHook', moment=moment, value='function')]
    with pytest.raises(UserError, match=r'message_hub\.runtime_info\.mine\[0\] is of type builtins.builtin_function_or_method'):
        train(config(tmp_path, hooks=put))
    assert not list(tmp_path.glob('*.pth*'))


def test_metainfo_that_cannot_be_read_stops_the_run_at_its_beginning(tmp_path):
    cfg = config(tmp_path, dict(classes=('a',)))
    with DefaultScope.overwrite_default_scope('mmengine'):
        runner = Runner.from_cfg(cfg)
        runner.train_dataloader.dataset.metainfo['loss'] = nn.ReLU()
        with pytest.raises(UserError, match=r'meta\.dataset_meta\.loss is of type torch\.nn\.modules\.activation\.ReLU'):
            runner.train()
    assert runner.iter == 0 and not list(tmp_path.glob('*.pth*'))


def test_an_info_that_comes_later_is_left_out(tmp_path, capsys):
    put = [dict(type='PutHook', moment='after_train_epoch', value='function', priority='NORMAL')]
    train(config(tmp_path, hooks=put))
    assert 'Left out of the checkpoint: message_hub.runtime_info.mine[0] is of type' in capsys.readouterr().out
    content = read_checkpoint(str(tmp_path / 'epoch_2.pth'))
    assert 'mine' not in content['message_hub']['runtime_info'] and content['meta']['epoch'] == 2
    assert train(config(tmp_path, max_epochs=3), 'auto').epoch == 3


def test_a_file_that_would_be_refused_does_not_get_its_name(tmp_path):
    put = [dict(type='PutHook', moment='before_save_checkpoint', value='layer')]
    with pytest.raises(UserError, match=r'epoch_1\.pth is not saved: it would hold torch\.nn\.modules\.activation\.ReLU'):
        train(config(tmp_path, hooks=put))
    assert not list(tmp_path.glob('*.pth*'))


def test_a_config_in_the_checkpoint_is_not_run(tmp_path):
    """What mmengine's Runner.resume does with the text of a config that its predecessors put there."""
    train(config(tmp_path, max_epochs=1))
    path = tmp_path / 'epoch_1.pth'
    content = read_checkpoint(str(path))
    content['meta']['config'] = f"open('{tmp_path / 'executed'}', 'w')"
    torch.save(content, path)
    assert train(config(tmp_path), 'auto').epoch == 2
    assert not (tmp_path / 'executed').exists()
