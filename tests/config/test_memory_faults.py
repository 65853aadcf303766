"""Memory that runs out: the message names the settings of this config that need less."""

import errno

import numpy as np
import pytest
import torch
from data_check.drawn import coco, detector

from mmspike.config.data import data_faults_explained
from mmspike.config.memory_faults import is_out_of_memory, memory_advice
from mmspike.models.backbones import MetaSpikeFormer
from mmspike.utils.errors import UserError

CUDA = 'CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 23.69 GiB'
BACKBONE = dict(type='mmspike.MetaSpikeFormer', arch='15m')  # T is 4 by default


def fail(error):
    raise error


def accelerator_error():
    if hasattr(torch, 'AcceleratorError'):  # since 2.9
        return torch.AcceleratorError('CUDA error: out of memory', 0, 0)
    return RuntimeError('CUDA error: out of memory')


FAILURES = dict(
    cuda=lambda: fail(torch.OutOfMemoryError(CUDA)),
    driver=lambda: fail(accelerator_error()),
    library=lambda: fail(RuntimeError('cuDNN error: CUDNN_STATUS_ALLOC_FAILED')),
    cpu=lambda: torch.empty(2**50),
    numpy=lambda: np.empty(2**50),
    kernel=lambda: fail(MemoryError()),
    fork=lambda: fail(OSError(errno.ENOMEM, 'Cannot allocate memory')),
)


@pytest.fixture
def cfg(tmp_path):
    config = detector(coco(tmp_path))
    config.model.backbone = BACKBONE
    config.optim_wrapper = dict(type='OptimWrapper', accumulative_counts=2)
    for loader in ('train_dataloader', 'val_dataloader'):
        config[loader].batch_size = 8
    return config


@pytest.mark.parametrize('kind', FAILURES)
def test_every_kind_is_told_from_other_errors(cfg, kind):
    with pytest.raises(UserError, match='There is not enough memory: ') as info, data_faults_explained(cfg):
        FAILURES[kind]()
    assert is_out_of_memory(info.value.__cause__)
    assert ('processes that load data' in str(info.value)) == (kind == 'fork')


def test_other_errors_are_none():
    for error in (RuntimeError('CUDA error: device-side assert triggered'), OSError(errno.ENOSPC, 'full'), KeyError('x')):
        assert not is_out_of_memory(error)


def test_what_a_training_can_do(cfg):
    error = torch.OutOfMemoryError(CUDA)
    text = memory_advice(cfg, error, ('train_dataloader', 'val_dataloader'))
    assert text.startswith(f'There is not enough memory: {CUDA}\n')
    for expected in (
        'now 8 images a process: --cfg-options train_dataloader.batch_size=4; with optim_wrapper.accumulative_counts=4 ',
        '--cfg-options model.backbone.with_cp=True',
        'mixed precision: --amp',
        'fewer time steps, now 4; this is another network, to be trained anew: --cfg-options model.backbone.T=2',
    ):
        assert expected in text


def test_what_is_done_already_is_not_advised(cfg):
    """The backbone lies within another module; one without time steps."""
    inner = dict(type='mmspike.ESpikeFormer', arch='t', with_cp=True)
    cfg.model.backbone = dict(type='mmspike.ExtraStages', backbone=inner, num_stages=1)
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.train_dataloader.batch_size = 1
    text = memory_advice(cfg, MemoryError('no memory'), ('train_dataloader',))
    assert 'with_cp' not in text and '--amp' not in text and 'batch' not in text and 'time steps' not in text
    assert 'smaller images' in text
    cfg.model.backbone.backbone.update(with_cp=False, T=4)
    text = memory_advice(cfg, MemoryError('no memory'), ('train_dataloader',))
    assert 'model.backbone.backbone.with_cp=True' in text and 'model.backbone.backbone.T=2' in text


def test_a_backbone_of_ones_own_that_hands_its_options_on(cfg):
    class Deeper(MetaSpikeFormer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)

    cfg.model = dict(backbone=dict(type=Deeper, arch='15m'))
    assert 'now 4; this is' in memory_advice(cfg, MemoryError('no memory'), ('train_dataloader',))


def test_what_a_test_can_do(cfg):
    text = memory_advice(cfg, torch.OutOfMemoryError(CUDA), ('val_dataloader',))
    assert 'now 8: --cfg-options val_dataloader.batch_size=1' in text and '--amp' in text and 'model.backbone.T=2' in text
    assert 'with_cp' not in text and 'accumulative' not in text


def test_of_a_worker_the_last_line_is_told(cfg):
    said = 'Caught RuntimeError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\n  …\n'
    error = RuntimeError(said + "RuntimeError: DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")
    text = memory_advice(cfg, error, ('train_dataloader',))
    assert 'Traceback' not in text and 'tried to allocate 9 bytes' in text
    assert '--cfg-options train_dataloader.num_workers=1' in text
