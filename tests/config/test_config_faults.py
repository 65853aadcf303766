"""Keys and types that do not exist are named, with the nearest right ones."""

from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner

from mmspike.config.config_faults import check_options, check_top_level, check_values, config_faults_explained
from mmspike.utils.errors import UserError


def config(**changes):
    """A classifier of mmpretrain; ``changes`` are keys with dots."""
    cfg = Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                backbone=dict(
                    type='mmspike.MetaSpikeFormer',
                    arch=dict(dims=[8, 16, 16, 16], depths=(1, 1, 1, 1, 1)),
                    T=1,
                    neuron=dict(type='LIF', tau=2.0),
                ),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='LinearClsHead', num_classes=4, in_channels=16),
            ),
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='DefaultSampler', shuffle=True),
                dataset=dict(type='CustomDataset', data_prefix='x', pipeline=[dict(type='mmspike.LoadImageFromFile')]),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-3)),
        )
    )
    cfg.merge_from_dict(changes)
    return cfg


def message(function, *args):
    with pytest.raises(UserError) as info:
        function(*args)
    return str(info.value)


def build(cfg):
    init_default_scope('mmpretrain')
    with config_faults_explained(cfg):
        MODELS.build(cfg.model)
        Runner.build_dataloader(cfg.train_dataloader)


@pytest.mark.parametrize(
    'key,value,place,near',
    [
        ('model.backbone.tempral_output', 'mean', 'model.backbone.tempral_output', 'temporal_output'),
        ('model.backbone.neuron.taus', 2.0, 'model.backbone.neuron.taus', 'tau'),
        ('model.backbone.frozen_stage', 1, 'model.backbone.frozen_stage', 'frozen_stages'),
        ('model.bakbone', dict(), 'model.bakbone', 'backbone'),
        ('model.head.num_clases', 3, 'model.head.num_clases', 'num_classes'),
        ('train_dataloader.batchsize', 3, 'train_dataloader.batchsize', 'batch_size'),
        ('train_dataloader.sampler.shufle', True, 'train_dataloader.sampler.shufle', 'shuffle'),
    ],
)
def test_unknown_key(tmp_path, key, value, place, near):
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        (tmp_path / name / '1.png').write_bytes(b'')
    cfg = config(**{key: value, 'train_dataloader.dataset.data_prefix': str(tmp_path)})
    text = message(build, cfg)
    assert f'sets {place}, but' in text and f"Did you mean '{near}'?" in text


@pytest.mark.parametrize(
    'key,kind,near',
    [
        ('model.backbone.type', 'mmspike.MetaSpikeFromer', 'mmspike.MetaSpikeFormer'),
        ('model.backbone.type', 'MetaSpikeFormer', 'mmspike.MetaSpikeFormer'),
        ('model.head.type', 'LinearClassHead', 'LinearClsHead'),
        ('train_dataloader.dataset.type', 'CustomDataSet', 'CustomDataset'),
    ],
)
def test_unknown_type(key, kind, near):
    text = message(build, config(**{key: kind}))
    assert f'sets {key} to {kind!r}, which is not registered' in text and f'Did you mean {near!r}?' in text


def test_other_errors_pass():
    for error in (TypeError('other'), KeyError('other'), TypeError("f() got an unexpected keyword argument 'nowhere'")):
        with pytest.raises(type(error), match=str(error).strip("'").replace('(', r'\(').replace(')', r'\)')):
            with config_faults_explained(config()):
                raise error


@pytest.mark.parametrize(
    'key,near',
    [('train_dataloder', 'train_dataloader'), ('optim_wraper', 'optim_wrapper'), ('custom_hook', 'custom_hooks')],
)
def test_top_level(key, near):
    assert f"a key {key!r}, which nobody reads: did you mean '{near}'?" in message(check_top_level, config(**{key: dict()}))
    check_top_level(config(metainfo=dict(), base_lr=1.0, train_pipeline=[], val_evaluator_all=[]))


@pytest.mark.parametrize(
    'option,near',
    [
        ('model.bakbone.T', 'model.backbone'),
        ('model.backbone.neuron.type.x', None),
        ('train_cfg.max_epoch', 'train_cfg.max_epochs'),
        ('train_dataloader.batchsize', 'train_dataloader.batch_size'),
        ('train_dataloader.dataset.pipeline.0.typ', 'train_dataloader.dataset.pipeline.0.type'),
        ('optim_wraper.type', 'optim_wrapper'),
        # new, and right
        ('model.backbone.with_cp', None),
        ('train_dataloader.batch_sampler', None),
        ('optim_wrapper.accumulative_counts', None),
        ('optim_wrapper.clip_grad.max_norm', None),
        ('val_cfg.type', None),
        ('sync_bn', None),
    ],
)
def test_options(option, near):
    if near is None:
        check_options(config(), {option: 1})
    else:
        assert f'--cfg-options {option}: the config has no ' in (text := message(check_options, config(), {option: 1}))
        assert f'Did you mean {near}?' in text


@pytest.mark.parametrize(
    'option,now',
    [
        ('optimizer.lr', 'it is now optim_wrapper.optimizer.lr'),
        ('data.samples_per_gpu', 'it is now train_dataloader.batch_size'),
        ('data.train.ann_file', 'it is now train_dataloader.dataset.ann_file'),
        ('runner.max_epochs', 'it is now train_cfg.max_epochs'),
        ('total_epochs', 'it is now train_cfg.max_epochs'),
        ('evaluation.interval', 'it is now train_cfg.val_interval'),
        ('lr_config.policy', 'it is now param_scheduler (a list of schedules)'),
        ('optimizer_config.grad_clip.max_norm', 'it is now optim_wrapper.clip_grad.max_norm'),
        ('log_config.interval', 'it is now default_hooks.logger.interval'),
        ('seed', 'it is now randomness.seed'),
        ('workflow', 'it is no more'),
    ],
)
def test_keys_of_the_old_versions(option, now):
    assert f'--cfg-options {option}: a key of the 2.x versions; {now}' in message(check_options, config(), {option: 1})


def test_old_keys_of_a_configs_own_are_let_through():
    check_options(config(data=dict(x=1), seed=0), {'data.x': 2, 'seed': 1})


def test_new_keys_at_the_top_that_nobody_reads():
    text = message(check_options, config(), {'learning_rate': 1})
    assert '--cfg-options learning_rate: the config has no learning_rate, and nobody would read it. A variable' in text
    for option in ('compile', 'randomness.seed', 'auto_scale_lr.enable', 'find_unused_parameters', 'env_cfg.cudnn_benchmark'):
        check_options(config(), {option: 1})


@pytest.mark.parametrize('value', [np.ones(2), Path('/x'), print, lambda x: x])
def test_values_that_mmengine_cannot_write(value):
    cfg = Config(dict(model=dict(layers=[dict(a=1), dict(weights=value)])))
    with pytest.raises(SyntaxError, match='Failed to format'):
        print(cfg.pretty_text)
    with pytest.raises(UserError, match=r'sets model\.layers\.1\.weights to .*, of type .*: write numbers, texts'):
        check_values(cfg)


def test_values_that_mmengine_can_write():
    cfg = Config(dict(a=np.float32(3), b={1, 2}, c=None, d="it's", e=[(1, 2.5), True], f=dict()))
    check_values(cfg)
    assert Config.fromstring(cfg.pretty_text, '.py').a == 3
    check_values(Config(dict(model=dict(type=Config))))
