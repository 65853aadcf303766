"""Two processes on the CPU: each task with DDP, sharded weights (FSDP), and what repeats bit for bit."""

import multiprocessing
import os
import socket
from copy import deepcopy

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import convert_sync_batchnorm
from mmengine.registry import MODELS

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('mmpretrain')

# imported here once, and not in every forked process
import matplotlib.backends.backend_agg  # noqa: E402, F401
import torchvision  # noqa: E402, F401
from torch.distributed.fsdp import FullyShardedDataParallel  # noqa: E402

from mmspike.config import launch  # noqa: E402
from mmspike.engine.hooks.iteration_seed_hook import MODEL, iteration_seed, seed_everything  # noqa: E402
from mmspike.models.checkpoints import check_checkpoint_fits  # noqa: E402
from mmspike.utils.checkpoint import read_checkpoint  # noqa: E402
from mmspike.utils.errors import UserError  # noqa: E402
from mmspike.utils.optional import is_installed  # noqa: E402

from .tiny import build, config, samples  # noqa: E402

HOSTS = ('mmdet', 'mmseg', 'mmpretrain')
FORK = multiprocessing.get_context('fork')
LR = 0.1
pytestmark = pytest.mark.skipif(torch.accelerator.is_available(), reason='processes on the CPU')


class Recorder(Hook):
    """Keeps what goes into the first iteration and the weights before and after it."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.record = {}

    @staticmethod
    def _weights(runner):
        model = runner.model.module if hasattr(runner.model, 'module') else runner.model
        with FullyShardedDataParallel.summon_full_params(runner.model):
            return {key: p.detach().clone() for key, p in model.named_parameters()}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 0:
            self.record.update(batch=deepcopy(data_batch), before=self._weights(runner))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 0:
            self.record.update(after=self._weights(runner))

    def after_val_epoch(self, runner, metrics=None):
        self.record.update(metrics=metrics)


def training(host, shapes, tmp_path, batch_size=1):
    """Two iterations of plain gradient descent, then validation and a checkpoint."""
    cfg = config(host, 'SFA', shapes)
    cfg.work_dir, cfg.launcher = str(tmp_path), 'none'
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=2, val_interval=2)
    cfg.train_dataloader.update(batch_size=batch_size, sampler=dict(type='InfiniteSampler', shuffle=True))
    cfg.train_dataloader.pop('batch_sampler', None)
    cfg.optim_wrapper = dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=LR))
    cfg.param_scheduler = []
    cfg.randomness = dict(seed=1)
    cfg.default_hooks.checkpoint = dict(type='mmspike.SafeCheckpointHook', by_epoch=False, interval=2)
    cfg.update(test_dataloader=None, test_cfg=None, test_evaluator=None)
    if host == 'mmdet':  # none is drawn at random
        cfg.model.train_cfg.rpn.sampler.num = cfg.model.train_cfg.rcnn.sampler.num = 100000
    if host == 'mmpretrain':
        launch.complete_mmpretrain_loaders(cfg)
    return cfg


def _process(rank, port, cfg, out):
    os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE='2', MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    cfg.launcher = 'pytorch'
    runner = launch.build_runner(cfg)
    recorder = Recorder()
    runner.register_hook(recorder)
    runner.train()
    torch.save(recorder.record, f'{out}/rank{rank}.pkl')
    torch.distributed.barrier()  # nobody leaves while the other still talks to it
    torch.distributed.destroy_process_group()


def two_processes(cfg, out):
    """Train in two processes; what each has recorded."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    processes = [FORK.Process(target=_process, args=(rank, port, cfg, out)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    return [torch.load(out / f'rank{rank}.pkl', weights_only=False) for rank in (0, 1)]


def expected_step(cfg, records):
    """The weights after one step with the mean of the gradients of both processes' batches, each computed alone."""
    model_cfg = cfg.model.copy()
    if 'data_preprocessor' in cfg:
        model_cfg.setdefault('data_preprocessor', cfg.data_preprocessor)
    weights = records[0]['before']
    step = {key: torch.zeros_like(p) for key, p in weights.items()}
    for rank, record in enumerate(records):
        model = MODELS.build(deepcopy(model_cfg)).train()
        model.load_state_dict(weights, strict=False)
        seed_everything(iteration_seed(1, rank, MODEL, 0))
        losses = model(**model.data_preprocessor(deepcopy(record['batch']), True), mode='loss')
        model.parse_losses(losses)[0].backward()
        for key, p in model.named_parameters():
            step[key] += p.grad / 2
    return {key: p - LR * step[key] for key, p in weights.items()}


def assert_step(cfg, records):
    for key, p in records[1]['before'].items():
        assert torch.equal(p, records[0]['before'][key])
    inputs = [record['batch']['inputs'][0] for record in records]
    assert inputs[0].shape != inputs[1].shape or not torch.equal(*inputs)
    for key, p in expected_step(cfg, records).items():
        for record in records:
            assert (record['after'][key] - p).norm() <= 1e-4 * (p - record['before'][key]).norm() + 1e-6, key


@pytest.mark.parametrize('host', HOSTS)
def test_ddp(shapes, tmp_path, host):
    """A step is one with the mean gradient, and the score is that of one process."""
    cfg = training(host, shapes, tmp_path / 'two')
    records = two_processes(deepcopy(cfg), tmp_path)
    assert_step(cfg, records)
    # statistics of batch norms are each process's own; the checkpoint is that of the first
    alone = deepcopy(cfg)
    alone.update(train_dataloader=None, train_cfg=None, optim_wrapper=None, param_scheduler=None)
    alone.update(work_dir=str(tmp_path / 'one'), load_from=str(tmp_path / 'two' / 'iter_2.pth'))
    assert launch.build_runner(alone).val() == records[0]['metrics']
    assert records[0]['metrics']


def test_fsdp(shapes, tmp_path):
    """Sharded weights: the same step, a checkpoint of the whole model that plain tools read, and it goes on from there."""
    cfg = training('mmseg', shapes, tmp_path / 'whole')
    cfg.optim_wrapper.optimizer.momentum = 0.9
    cfg.default_hooks.checkpoint.interval = 1
    cfg.train_cfg.max_iters = 3
    cfg.runner_type = 'FlexibleRunner'
    cfg.strategy = dict(
        type='mmspike.FSDPStrategy',
        state_dict_cfg='full',
        model_wrapper=dict(type='MMFullyShardedDataParallel', use_orig_params=True),
    )
    assert_step(cfg, two_processes(deepcopy(cfg), tmp_path))
    path = str(tmp_path / 'whole' / 'iter_2.pth')
    check_checkpoint_fits(MODELS.build(cfg.model), path)
    cfg.work_dir, cfg.load_from, cfg.resume = str(tmp_path / 'resumed'), path, True
    two_processes(cfg, tmp_path)
    whole, resumed = (read_checkpoint(str(tmp_path / name / 'iter_3.pth')) for name in ('whole', 'resumed'))
    trained = dict(MODELS.build(cfg.model).named_parameters())
    for key in trained:
        torch.testing.assert_close(resumed['state_dict'][key], whole['state_dict'][key], msg=key)
    assert resumed['optimizer']['state'] and resumed['meta']['iter'] == 3


@pytest.mark.parametrize('host', HOSTS)
def test_deterministic_runs_are_bit_equal(shapes, tmp_path, host):
    states = []
    try:
        for name in ('a', 'b'):
            cfg = training(host, shapes, tmp_path / name, batch_size=2)
            cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
            cfg.randomness.deterministic = True
            cfg.experiment_name = f'{tmp_path.name}_{name}'
            launch.build_runner(cfg).train()
            states.append(read_checkpoint(str(tmp_path / name / 'iter_2.pth'))['state_dict'])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(states[1][key], value) for key, value in states[0].items())


@pytest.mark.parametrize('neuron', ['SFA', 'LIF'])
@pytest.mark.parametrize('host', HOSTS)
def test_sync_bn_keeps_spiking_layers(shapes, host, neuron):
    """Converted norms are not fused; in one process the network is the plain one off the fused paths, but for rounding."""
    cfg = config(host, neuron, shapes)
    if host == 'mmdet':
        cfg.model.train_cfg.rpn.sampler.num = cfg.model.train_cfg.rcnn.sampler.num = 100000
    plain = build(cfg)
    synced = convert_sync_batchnorm(deepcopy(plain), 'torch')
    norms = [m for m in plain.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    assert len(norms) == sum(isinstance(m, torch.nn.SyncBatchNorm) for m in synced.modules()) > 10
    for norm in norms:
        norm.register_forward_hook(lambda module, inputs, output: None)  # to hooks, norms are modules of their own
    batch = samples(cfg, 'train_dataloader', 2)
    losses = []
    for model in (plain, synced):
        model.train()
        seed_everything(0)
        data = model.data_preprocessor(deepcopy(batch), True)
        losses.append(model.parse_losses(model(**data, mode='loss'))[0])
        losses[-1].backward()
    torch.testing.assert_close(*losses)
    assert list(synced.state_dict()) == list(plain.state_dict())
    # a bias in front of a norm has the gradient 0, of which rounding alone is seen
    least = 1e-6 * max(p.grad.norm() for p in plain.parameters())
    for key, p in plain.named_parameters():
        assert (synced.get_parameter(key).grad - p.grad).norm() <= 1e-4 * p.grad.norm() + least, key
    for key, value in plain.named_buffers():
        torch.testing.assert_close(synced.get_buffer(key), value, rtol=1e-5, atol=1e-7, msg=key)


def test_sync_bn_on_the_cpu_is_refused(shapes, tmp_path):
    cfg = training('mmpretrain', shapes, tmp_path)
    cfg.update(sync_bn='torch', launcher='pytorch')
    with pytest.raises(UserError, match='sync_bn needs a GPU'):
        launch.build_runner(cfg)


def test_deepspeed_says_that_it_is_missing(shapes, tmp_path):
    if is_installed('deepspeed'):
        pytest.skip('deepspeed is installed')
    cfg = training('mmseg', shapes, tmp_path)
    cfg.runner_type = 'FlexibleRunner'
    cfg.strategy = dict(type='DeepSpeedStrategy', bf16=dict(enabled=True), zero_optimization=dict(stage=2))
    with pytest.raises(AssertionError, match='DeepSpeed is not installed'):
        launch.build_runner(cfg)
