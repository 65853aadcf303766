"""What differs between a config and the checkpoint from which it goes on, and whose settings count."""

from copy import deepcopy

import pytest
from mmengine.config import Config

from mmspike.config.recorded import Expression, read_recorded
from mmspike.config.resume_settings import resolve_settings
from mmspike.utils.errors import UserError

BASE = dict(
    train_cfg=dict(by_epoch=True, max_epochs=4, val_interval=1),
    train_dataloader=dict(batch_size=2),
    optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95))),
    param_scheduler=[dict(type='LinearLR', begin=0, end=1), dict(type='CosineAnnealingLR', T_max=4)],
    auto_scale_lr=dict(base_batch_size=16),
    randomness=dict(seed=0),
)


def config(*changes):
    cfg = Config(deepcopy(BASE))
    for change in changes:
        cfg.merge_from_dict(deepcopy(change))
    return cfg


def meta(cfg):
    return dict(cfg=cfg.pretty_text, seed=0, epoch=2, iter=6)


def resolve(change, choice=None, before=None):
    cfg = config(change)
    resolve_settings(cfg, 'epoch_2.pth', meta(config(before or {})), choice)
    return cfg


@pytest.mark.parametrize('change', [{}, {'work_dir': 'x'}, {'model.head.dropout': 0.1}, {'randomness.seed': 0}])
def test_nothing_is_said_where_nothing_differs(change, capsys):
    resolve(change)
    assert not capsys.readouterr().out


REFUSED = {
    'param_scheduler.1.T_max': (8, r'\+ param_scheduler\[1\]\.T_max = 8'),
    'param_scheduler.0.end': (2, r'- param_scheduler\[0\]\.end = 1'),
    'train_cfg.max_epochs': (8, r'- param_scheduler\[1\]\.end = 4\n\+ param_scheduler\[1\]\.end = 8'),
    'optim_wrapper.optimizer.lr': (1e-4, r'- optim_wrapper\.optimizer\.lr = 0\.001\n\+ optim_wrapper\.optimizer\.lr = 0\.0001'),
    'optim_wrapper.optimizer.betas': ((0.8, 0.9), r'\+ optim_wrapper\.optimizer\.betas = \(0\.8, 0\.9\)'),
    'optim_wrapper.paramwise_cfg': (dict(norm_decay_mult=0), r'\+ optim_wrapper\.paramwise_cfg = '),
    'auto_scale_lr.enable': (True, r'\+ auto_scale_lr = '),
    'randomness.seed': (3, r'- randomness\.seed = 0\n\+ randomness\.seed = 3'),
}


@pytest.mark.parametrize('key', REFUSED)
def test_what_the_state_would_override_is_refused(key):
    value, message = REFUSED[key]
    with pytest.raises(UserError, match=message) as error:
        resolve({key: value})
    assert '--resume-settings config' in str(error.value) and '--resume-settings checkpoint' in str(error.value)


@pytest.mark.parametrize('key', REFUSED)
def test_the_choice_decides(key, capsys):
    value, message = REFUSED[key]
    cfg = resolve({key: value}, 'config')
    assert cfg.to_dict() == config({key: value}).to_dict()
    cfg = resolve({key: value}, 'checkpoint')
    resolve_settings(cfg, 'epoch_2.pth', meta(config({})), None)  # now there is nothing to decide
    assert cfg.optim_wrapper == BASE['optim_wrapper'] and cfg.randomness.seed == 0
    assert cfg.param_scheduler[1] == BASE['param_scheduler'][1] | dict(end=4)
    assert '--resume-settings checkpoint' in capsys.readouterr().out


def test_what_is_obeyed_anyway_is_said(capsys):
    end = {'param_scheduler.1.end': 4}
    changes = {
        'optim_wrapper.accumulative_counts': 2,
        'optim_wrapper.clip_grad': dict(max_norm=1),
        'train_dataloader.batch_size': 8,
    }
    resolve(changes | end | {'train_cfg.max_epochs': 6, 'optim_wrapper.type': 'AmpOptimWrapper'}, before=end)
    out = capsys.readouterr().out
    assert 'obeyed as the config has it' in out
    for line in (
        '+ optim_wrapper.accumulative_counts = 2',
        "- optim_wrapper.type = 'OptimWrapper'",
        '+ train_cfg.max_epochs = 6',
    ):
        assert line in out


@pytest.mark.parametrize('choice', [None, 'config', 'checkpoint'])
def test_another_kind_of_optimizer_cannot_go_on(choice):
    with pytest.raises(UserError, match=r"- optim_wrapper\.optimizer\.type = 'AdamW'\n.*'SGD'(.|\n)*load_from='epoch_2.pth'"):
        resolve({'optim_wrapper.optimizer': dict(type='SGD', lr=0.1, _delete_=True)}, choice)
    amp = {'optim_wrapper.loss_scale': 512.0}
    resolve(amp)
    with pytest.raises(UserError, match='loss_scale = 1024'):
        resolve({'optim_wrapper.loss_scale': 1024.0}, choice, before=amp)


def test_a_schedule_in_epochs_that_steps_by_iteration_depends_on_the_batch():
    by_iteration = {'param_scheduler.1.convert_to_iter_based': True}
    resolve(by_iteration, before=by_iteration)
    with pytest.raises(UserError, match=r'\+ train_dataloader\.batch_size = 4'):
        resolve(by_iteration | {'train_dataloader.batch_size': 4}, before=by_iteration)


def test_several_optimizers():
    one = dict(optimizer=dict(type='SGD', lr=0.1))
    several = {'optim_wrapper': dict(_delete_=True, constructor='Mine', a=one, b=one), 'param_scheduler': None}
    with pytest.raises(UserError, match=r'\+ optim_wrapper\.b\.optimizer\.lr = 0\.5'):
        resolve(several | {'optim_wrapper.b.optimizer.lr': 0.5}, before=several)
    cfg = resolve(several | {'optim_wrapper.b.optimizer.lr': 0.5}, 'checkpoint', before=several)
    assert cfg.optim_wrapper.b.optimizer.lr == 0.1


@pytest.mark.parametrize('content', [{}, dict(cfg='Config (path: None): {…}'), dict(cfg=None)])
def test_a_checkpoint_without_a_config(content, capsys):
    resolve_settings(config(), 'epoch_2.pth', content, None)
    assert 'epoch_2.pth does not tell its config' in capsys.readouterr().out


def test_a_recorded_config_is_read_and_not_run(tmp_path):
    mark = tmp_path / 'mark'
    text = f"a = open('{mark}', 'w')\nb = dict(c=[1, -2.5], d=(True, None), e={{'f': 'g'}}, h=float('inf'), i=dict(**a))\n"
    settings = read_recorded(text)
    assert not mark.exists()
    assert settings['b'] == dict(c=[1, -2.5], d=(True, None), e=dict(f='g'), h="float('inf')", i='dict(**a)')
    assert read_recorded('a = dict(day=2024-05-01,\n    b=1)\nc = [1]\n') == dict(a='dict(day=2024-05-01,\n    b=1)', c=[1])
    assert isinstance(settings['a'], Expression) and isinstance(settings['b']['i'], Expression)


def test_what_is_no_plain_value_cannot_be_taken_over():
    before = config({'param_scheduler': [dict(type='PolyLR', power=1.0)]})
    recorded = meta(before) | dict(cfg=before.pretty_text.replace('power=1.0', 'power=open("x")'))
    with pytest.raises(UserError, match=r"no plain value but open\('x'\)"):
        resolve_settings(config(), 'epoch_2.pth', recorded, 'checkpoint')


def test_shipped_configs_are_read_as_mmengine_reads_it(repo):
    for name in ('mask_rcnn_espike_nuclei', 'fpn_espike_nuclei', 'espike_cifar10'):
        cfg = Config.fromfile(repo / 'configs' / f'{name}.py')
        assert read_recorded(cfg.pretty_text) == Config.fromstring(cfg.pretty_text, '.py').to_dict()
