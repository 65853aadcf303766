"""A run that is killed and resumed computes, bit for bit, what an uninterrupted one does."""

import errno
import functools
import multiprocessing
import os
import random
import signal
import time

import matplotlib.backends.backend_agg  # noqa: F401 (with torchvision: imported once, not in every forked process)
import mmengine.runner.loops
import numpy as np
import pytest
import torch
import torchvision  # noqa: F401
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS, DefaultScope
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import Dataset

from mmspike.config import resuming
from mmspike.engine.hooks import safe_checkpoint_hook
from mmspike.utils.checkpoint import read_checkpoint

FORK = multiprocessing.get_context('fork')
ITERATIONS = 12  # 3 epochs of 4 batches


@DATASETS.register_module()
class ResumeDataset(Dataset):
    """Eight fixed samples, augmented by all three generators."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        noise = np.random.rand(4) + random.random() + torch.rand(4).numpy()
        return dict(inputs=torch.from_numpy(noise + index).float())


@MODELS.register_module()
class ResumeModel(BaseModel):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.Linear(8, 1))

    def forward(self, inputs, mode='tensor', **kwargs):
        out = self.layers(torch.stack(inputs))
        if mode == 'loss':
            return dict(loss=out.square().mean())
        torch.rand(3)  # validation draws numbers, too
        return list(out)


@METRICS.register_module()
class ResumeMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.append(0)

    def compute_metrics(self, results):
        return dict(count=len(results))


@HOOKS.register_module()
class LossRecorder(Hook):
    """Appends iteration and exact loss to a file; kills its process at iteration ``kill_iteration``."""

    def __init__(self, path, kill_iteration=None, kill_validation=None):
        self.path = path
        self.kill_iteration = kill_iteration
        self.kill_validation = kill_validation

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.kill_iteration:
            kill()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        with open(self.path, 'a') as file:
            file.write(f'{runner.iter} {float(outputs["loss"]).hex()}\n')

    def before_val_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.kill_validation:
            kill()


def kill(*args):
    os.kill(os.getpid(), signal.SIGKILL)


class HalfWritten:
    """A file in the middle of whose write ``fault`` happens."""

    def __init__(self, file, fault):
        self.file = file
        self.fault = fault

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.file.close()

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.file.flush()
        self.fault()


def config(work_dir, by_epoch, workers, persistent=False, sampler=None, hook=True, kill=None):
    loader = dict(
        batch_size=2,
        num_workers=workers,
        persistent_workers=persistent,
        sampler=dict(type=sampler or ('DefaultSampler' if by_epoch else 'InfiniteSampler'), shuffle=True),
        dataset=dict(type='ResumeDataset'),
    )
    recorder = dict(type='LossRecorder', path=f'{work_dir}/losses.txt', **(kill or {}))
    loop = (
        dict(type='EpochBasedTrainLoop', max_epochs=3, val_interval=1)
        if by_epoch
        else dict(type='IterBasedTrainLoop', max_iters=ITERATIONS, val_interval=3)
    )
    return Config(
        dict(
            model=dict(type='ResumeModel'),
            work_dir=str(work_dir),
            train_dataloader=loader,
            val_dataloader=loader | dict(num_workers=0, persistent_workers=False, sampler=dict(type='DefaultSampler')),
            train_cfg=loop,
            val_cfg=dict(),
            val_evaluator=dict(type='ResumeMetric'),
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=0.01)),
            param_scheduler=[
                dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=6),
                dict(type='CosineAnnealingLR', by_epoch=by_epoch, T_max=3 if by_epoch else ITERATIONS),
            ],
            default_hooks=dict(
                checkpoint=dict(
                    type='mmspike.SafeCheckpointHook',
                    interval=1 if by_epoch else 3,
                    by_epoch=by_epoch,
                    max_keep_ckpts=1,
                    save_best='count',
                    rule='greater',
                ),
                logger=dict(type='LoggerHook', interval=100),
            ),
            custom_hooks=[dict(type='EMAHook'), recorder] + [dict(type='mmspike.IterationSeedHook')] * hook,
            randomness=dict(seed=3),
            log_level='ERROR',
            experiment_name=str(work_dir).replace('/', '_'),
        )
    )


def _train(cfg, resume, patch):
    torch.set_num_threads(1)
    # what costs most of the time of a tiny run: waiting between passes, and formatting the config in every checkpoint
    mmengine.runner.loops.time.sleep = lambda seconds: None
    Config.pretty_text = property(repr)
    if patch is not None:
        patch()
    resuming.set_resume(cfg, resume)
    # a name of its own: the test's process must not see the state of an earlier run
    with DefaultScope.overwrite_default_scope('mmengine'):
        Runner.from_cfg(cfg).train()


def start(cfg, resume=None, patch=None):
    process = FORK.Process(target=_train, args=(cfg, resume, patch))
    process.start()
    return process


def train(cfg, resume=None, patch=None):
    """Train in a process of its own; returns its exit code."""
    process = start(cfg, resume, patch)
    process.join()
    assert not process.is_alive()
    return process.exitcode


def losses(work_dir):
    path = work_dir / 'losses.txt'
    return [tuple(line.split()) for line in path.read_text().splitlines()] if path.exists() else []


def final_state(work_dir):
    _, checkpoint = resuming.latest_checkpoint(str(work_dir))
    assert checkpoint['meta']['iter'] == ITERATIONS
    return {key: checkpoint[key] for key in ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers')}


def assert_same(a, b):
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for key in a:
            assert_same(a[key], b[key])
    elif isinstance(a, list | tuple):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_same(x, y)
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b)
    else:
        assert a == b


@pytest.fixture(scope='module')
def uninterrupted(tmp_path_factory):
    """The work directory of an uninterrupted run with given options, each trained once."""

    @functools.cache
    def run(**options):
        work_dir = tmp_path_factory.mktemp('uninterrupted')
        assert train(config(work_dir, **options)) == 0
        assert [int(iteration) for iteration, _ in losses(work_dir)] == list(range(ITERATIONS))
        return work_dir

    return run


def interrupt(work_dir, kill=None, patch=None, **options):
    """Train in ``work_dir`` until killed, then resume to the end."""
    assert train(config(work_dir, kill=kill, **options), patch=patch) == -signal.SIGKILL
    assert train(config(work_dir, **options), resume='auto') == 0


def assert_bit_exact(whole, broken):
    expected, found = losses(whole), losses(broken)
    assert set(found) == set(expected)  # iterations after the last checkpoint are there twice, with the same loss
    assert found[-1] == expected[-1]
    assert_same(final_state(whole), final_state(broken))


@pytest.mark.parametrize('by_epoch', [True, False])
@pytest.mark.parametrize('workers,persistent', [(0, False), (2, False), (2, True)])
def test_killed_in_an_iteration(tmp_path, uninterrupted, by_epoch, workers, persistent):
    options = dict(by_epoch=by_epoch, workers=workers, persistent=persistent)
    interrupt(tmp_path, kill=dict(kill_iteration=7), **options)
    # the number of workers changes nothing either
    assert_bit_exact(uninterrupted(by_epoch=by_epoch, workers=0), tmp_path)


def test_workers_of_an_uninterrupted_run(uninterrupted):
    assert losses(uninterrupted(by_epoch=True, workers=0)) == losses(uninterrupted(by_epoch=True, workers=2))


def test_sampler_that_cannot_skip(tmp_path, uninterrupted):
    options = dict(by_epoch=False, workers=2, sampler='DefaultSampler')
    interrupt(tmp_path, kill=dict(kill_iteration=7), **options)
    assert_bit_exact(uninterrupted(**options), tmp_path)


@pytest.mark.parametrize('iteration', [0, 4, 6])
def test_killed_before_the_first_checkpoint_or_next_to_one(tmp_path, uninterrupted, iteration):
    interrupt(tmp_path, kill=dict(kill_iteration=iteration), by_epoch=False, workers=0)
    assert_bit_exact(uninterrupted(by_epoch=False, workers=0), tmp_path)


def test_killed_in_validation(tmp_path, uninterrupted):
    interrupt(tmp_path, kill=dict(kill_validation=8), by_epoch=True, workers=0)
    assert_bit_exact(uninterrupted(by_epoch=True, workers=0), tmp_path)


def _fail_while_writing(fault, call):
    calls = iter(range(100))
    safe_checkpoint_hook.open = lambda *args: (  # shadows the builtin in that module
        HalfWritten(open(*args), fault) if args[-1] == 'wb' and next(calls) == call else open(*args)
    )


def _kill_at(function, call):
    calls = iter(range(100))
    real = getattr(os, function)
    setattr(safe_checkpoint_hook.os, function, lambda *args: kill() if next(calls) == call else real(*args))


# Epoch 1 writes a checkpoint (0), the record of the last one (1), the best (2), and 0 and 1 again with the best score;
# epoch 2 writes a checkpoint (5) and the record (6), then removes the checkpoint of epoch 1.
WRITES = (0, 1, 2, 3, 5, 6)
SAVING = {f'write{n}': functools.partial(_fail_while_writing, kill, n) for n in WRITES}
SAVING |= {f'rename{n}': functools.partial(_kill_at, 'replace', n) for n in WRITES}
SAVING['remove'] = functools.partial(_kill_at, 'remove', 0)


@pytest.mark.parametrize('moment', SAVING)
def test_killed_while_saving(tmp_path, uninterrupted, moment):
    interrupt(tmp_path, patch=SAVING[moment], by_epoch=True, workers=0)
    assert_bit_exact(uninterrupted(by_epoch=True, workers=0), tmp_path)


def disk_full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize('write', [0, 2, 5, 6])
def test_disk_full(tmp_path, uninterrupted, write, capfd):
    """Whatever cannot be written: what was saved before is readable, nothing half written is left, and it goes on."""
    options = dict(by_epoch=True, workers=0)
    patch = functools.partial(_fail_while_writing, disk_full, write)
    assert train(config(tmp_path, **options), patch=patch) == 1
    message = capfd.readouterr().err
    assert 'No space left on device' in message and 'MB are free' in message and '--resume' in message
    assert not list(tmp_path.glob('*.tmp'))
    assert [read_checkpoint(str(path)) for path in tmp_path.glob('*.pth')] or write == 0
    assert train(config(tmp_path, **options), resume='auto') == 0
    assert_bit_exact(uninterrupted(**options), tmp_path)


def _die(process, work_dir, iterations, delay):
    """Kill a training ``delay`` seconds after it has finished so many iterations; whether it was still running."""
    goal = len(losses(work_dir)) + iterations
    while process.is_alive() and len(losses(work_dir)) < goal:
        time.sleep(0.002)
    time.sleep(delay)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def test_killed_twenty_times_at_random_moments(tmp_path, uninterrupted):
    """A checkpoint every iteration, so that many of the kills meet one that is being written."""
    moments = random.Random(0)
    expected = losses(uninterrupted(by_epoch=False, workers=0))
    kills = runs = 0
    while kills < 20:
        work_dir = tmp_path / str(runs)
        work_dir.mkdir()
        runs += 1
        cfg = config(work_dir, by_epoch=False, workers=0)
        cfg.default_hooks.checkpoint.interval = 1
        exitcode = None
        while exitcode != 0:
            process = start(cfg, resume='auto')
            if kills < 20 and _die(process, work_dir, moments.randrange(4), moments.uniform(0, 0.05)):
                kills += 1
            process.join()
            exitcode = process.exitcode
            assert exitcode in (0, -signal.SIGKILL)
            record = work_dir / 'last_checkpoint'
            assert not record.exists() or read_checkpoint(record.read_text())['meta']['iter'] > 0
            for path in work_dir.glob('*.pth'):
                read_checkpoint(str(path))
        found = losses(work_dir)
        assert set(found) == set(expected) and found[-1] == expected[-1]
        assert_same(final_state(uninterrupted(by_epoch=False, workers=0)), final_state(work_dir))


@pytest.mark.parametrize('by_epoch,workers', [(True, 2), (False, 0)])
def test_without_the_hook_the_curves_differ(tmp_path, uninterrupted, by_epoch, workers):
    options = dict(by_epoch=by_epoch, workers=workers, hook=False)
    interrupt(tmp_path, kill=dict(kill_iteration=7), **options)
    assert losses(tmp_path)[-1] != losses(uninterrupted(**options))[-1]
