"""What is typed behind --cfg-options, and what becomes of it."""

import argparse

import pytest
import torch
from mmengine.config import Config

from mmspike.config.launch import load_config, load_run_config
from mmspike.config.literals import read_literal
from mmspike.config.options import add_config_options, add_run_options
from mmspike.utils.errors import UserError


def parse(*items):
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    add_config_options(parser)
    return parser.parse_args([str(items[0]), '--cfg-options', *items[1:]])


def test_values():
    options = parse(
        '',
        "a.b=[dict(type='X',k=(1,2)),{'type':'Y'}]",
        "c=dict(type='LIF',tau=2.0)",
        'd=1,2',
        'e=[(1,2),x]',
        'f=true',
        'g=x=y',
    ).cfg_options
    assert options == {
        'a.b': [dict(type='X', k=(1, 2)), dict(type='Y')],
        'c': dict(type='LIF', tau=2.0),
        'd': [1, 2],
        'e': [(1, 2), 'x'],
        'f': True,
        'g': 'x=y',
    }


@pytest.mark.parametrize(
    'text, reason',
    [
        ('visualizer', '--cfg-options visualizer: expected KEY=VALUE'),
        ('a=[dict(type=Tensorboard)]', 'Tensorboard is no Python literal; strings in a dict have quotes'),
        ("a=[dict(type='X')", 'is no Python literal'),
        ("a=dict(b=open('x'))", "open('x') is no Python literal"),
    ],
)
def test_what_is_no_value(text, reason, capsys):
    with pytest.raises(SystemExit):
        parse('', text)
    assert reason in capsys.readouterr().err


def test_literals():
    assert read_literal("[dict(a=dict(b=-1.5)), {'c': None}, ('x', True)]") == [dict(a=dict(b=-1.5)), dict(c=None), ('x', True)]


HOSTS = ('mask_rcnn_espike_nuclei.py', 'fpn_espike_nuclei.py', 'espike_cifar10.py')


@pytest.mark.parametrize('name', HOSTS)
def test_no_worker_processes(repo, name):
    """Every shipped config has persistent workers, which torch refuses without workers."""
    path = repo / 'configs' / name
    assert Config.fromfile(path).train_dataloader.persistent_workers
    cfg = load_config(parse(path, 'train_dataloader.num_workers=0', 'train_dataloader.prefetch_factor=2'))
    settings = {k: v for k, v in cfg.train_dataloader.items() if k in ('num_workers', 'persistent_workers', 'prefetch_factor')}
    torch.utils.data.DataLoader(range(3), **settings)
    assert cfg.val_dataloader.persistent_workers and cfg.val_dataloader.num_workers > 0


def test_a_list_is_a_tuple_where_the_config_has_one(repo):
    path = repo / 'configs' / 'mask_rcnn_espike_nuclei.py'
    cfg = load_config(parse(path, 'train_dataloader.dataset.pipeline.3.scale=31,31', 'model.backbone.out_indices=[0,1,3]'))
    assert cfg.train_dataloader.dataset.pipeline[3].scale == (31, 31)
    assert cfg.model.backbone.out_indices == (0, 1, 3)
    assert load_config(parse(path, 'model.neck.in_channels=1,2,3')).model.neck.in_channels == [1, 2, 3]


def test_work_directories_that_cannot_be(repo, tmp_path, monkeypatch):
    (tmp_path / 'file').write_text('')
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    add_run_options(parser)

    def load(work_dir):
        return load_run_config(parser.parse_args([str(repo / 'configs' / HOSTS[2]), '--work-dir', str(work_dir)]))

    monkeypatch.setenv('LOCAL_RANK', '0')  # which it would leave behind
    assert load(tmp_path / 'new').work_dir == str(tmp_path / 'new')
    with pytest.raises(UserError, match='--work-dir .*file/below cannot be written: .*/file is a file, expected a folder'):
        load(tmp_path / 'file' / 'below')
    monkeypatch.setattr('os.access', lambda path, mode: path != str(tmp_path))
    with pytest.raises(UserError, match=f'no right to write into {tmp_path}'):
        load(tmp_path / 'new' / 'one')
