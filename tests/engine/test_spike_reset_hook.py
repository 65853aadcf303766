"""Stateful neurons and samples: with the hook no sample sees the one before it, through every wrapper of the model."""

import multiprocessing
import os
from types import SimpleNamespace

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel, BaseTTAModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.runner import Runner
from spikingjelly.activation_based import functional, neuron
from torch import nn
from torch.utils.data import Dataset

from mmspike.engine import SpikeResetHook
from mmspike.models import LIF, MetaSpikeFormer
from mmspike.models.inspection import reset_spikes, stateful_modules

FORK = multiprocessing.get_context('fork')


def make_neuron(kind):
    if kind == 'spikingjelly':
        return neuron.LIFNode(tau=2.0, step_mode='m')
    return LIF(tau=2.0, stateful=kind == 'stateful')


@MODELS.register_module()
class StreamModel(BaseModel):
    """A linear layer whose output drives a neuron for T = 2; returns each neuron's firing rate."""

    def __init__(self, kind):
        super().__init__()
        self.linear = nn.Linear(3, 64)
        self.neuron = make_neuron(kind)
        generator = torch.Generator().manual_seed(0)
        for parameter in self.linear.parameters():
            nn.init.normal_(parameter, std=1.0, generator=generator)

    def forward(self, inputs, index=None, mode='tensor'):
        spikes = self.neuron(self.linear(torch.stack(inputs))[None].repeat(2, 1, 1)).mean(0)
        if mode == 'loss':
            return dict(loss=(spikes * torch.linspace(1, 2, 64)).sum())  # tells which neurons fired
        return list(spikes)


@DATASETS.register_module()
class StreamDataset(Dataset):
    """The samples of ``order``; sample i is the same wherever it stands. With ``views`` each is given several times."""

    def __init__(self, order, views=None):
        self.order = order
        self.views = views

    def __len__(self):
        return len(self.order)

    def __getitem__(self, position):
        sample = torch.randn(3, generator=torch.Generator().manual_seed(self.order[position]))
        return dict(inputs=sample if self.views is None else [sample * factor for factor in self.views])


@MODELS.register_module()
class StreamTTA(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        return [torch.stack(views) for views in data_samples_list]  # all views, to look at each


@METRICS.register_module()
class StreamMetric(BaseMetric):
    def process(self, data_batch, data_samples):
        self.results.extend(data_samples)

    def compute_metrics(self, results):
        return dict(outputs=torch.stack(results))


@HOOKS.register_module()
class TrainLosses(Hook):
    def before_train(self, runner):
        self.losses = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.losses.append(float(outputs['loss']))


def build(tmp_path, kind, order, hook=True, ema=False, tta=None, distributed=False):
    loader = dict(
        batch_size=1, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
        dataset=dict(type='StreamDataset', order=order),
    )  # fmt: skip
    test_loader = loader | dict(dataset=loader['dataset'] | dict(views=tta))
    model = dict(type='StreamModel', kind=kind)
    return Runner(
        model=dict(type='StreamTTA', module=model) if tta else model,
        work_dir=str(tmp_path),
        train_dataloader=None if tta else loader,
        train_cfg=None if tta else dict(by_epoch=True, max_epochs=1, val_begin=2),
        val_dataloader=loader,
        val_cfg=dict(),
        val_evaluator=dict(type='StreamMetric'),
        test_dataloader=test_loader,
        test_cfg=dict(),
        test_evaluator=dict(type='StreamMetric'),
        optim_wrapper=None if tta else dict(optimizer=dict(type='SGD', lr=0.0)),
        default_hooks=dict(checkpoint=None, logger=None),
        custom_hooks=[dict(type='TrainLosses')] + [dict(type='mmspike.SpikeResetHook')] * hook + [dict(type='EMAHook')] * ema,
        launcher='pytorch' if distributed else 'none',
        cfg=dict(
            model_wrapper_cfg=dict(type='MMDistributedDataParallel', device_ids=None, broadcast_buffers=False)
            if distributed
            else None
        ),
        experiment_name=f'{tmp_path.name}_{os.urandom(8).hex()}',
        log_level='ERROR',
    )


def outputs_by_sample(tmp_path, mode, order, **options):
    """{sample: what the model gave for it} after going through ``order``."""
    runner = build(tmp_path, order=order, **options)
    if mode == 'train':
        runner.train()
        values = next(hook for hook in runner.hooks if isinstance(hook, TrainLosses)).losses
    else:
        values = getattr(runner, mode)()['outputs']
    return {sample: torch.as_tensor(value) for sample, value in zip(order, values, strict=True)}


def depends_on_order(tmp_path, mode, **options):
    """Whether some sample's result changes, in any bit, with the samples before it."""
    forward = outputs_by_sample(tmp_path, mode, [0, 1, 2, 3], **options)
    backward = outputs_by_sample(tmp_path, mode, [3, 2, 1, 0], **options)
    return any(not torch.equal(forward[sample], backward[sample]) for sample in forward)


@pytest.mark.parametrize('mode', ['train', 'val', 'test'])
@pytest.mark.parametrize('kind', ['stateful', 'spikingjelly'])
@pytest.mark.parametrize('ema', [False, True])
def test_sample_does_not_depend_on_the_sample_before(tmp_path, mode, kind, ema):
    assert not depends_on_order(tmp_path, mode, kind=kind, ema=ema)


@pytest.mark.parametrize('mode', ['val', 'test'])
def test_without_the_hook_it_does(tmp_path, mode):
    assert depends_on_order(tmp_path, mode, kind='stateful', hook=False)


def test_without_the_hook_it_does_in_training(tmp_path):
    assert depends_on_order(tmp_path, 'train', kind='stateful', hook=False)


def test_stateless_neurons_do_not_need_it(tmp_path):
    assert not depends_on_order(tmp_path, 'val', kind='stateless', hook=False)


def test_views_of_test_time_augmentation(tmp_path):
    options = dict(kind='stateful', tta=[1.0, 2.0])
    assert not depends_on_order(tmp_path, 'test', **options)
    both = outputs_by_sample(tmp_path, 'test', [0, 1], **options)
    alone = outputs_by_sample(tmp_path, 'test', [0, 1], kind='stateful', tta=[2.0])
    for sample in both:  # the second view is predicted as if there were no first
        assert torch.equal(both[sample][1], alone[sample][0])
    assert depends_on_order(tmp_path, 'test', hook=False, **options)


def _distributed(rank, tmp_path, queue):
    os.environ['LOCAL_RANK'] = str(rank)
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/rendezvous', rank=rank, world_size=2)
    results = {}
    for hook in (True, False):
        for mode in ('train', 'val'):
            # two samples per rank; each rank sees its own ones in both orders
            options = dict(kind='stateful', hook=hook, distributed=True)
            if mode == 'train':
                one = outputs_by_rank(tmp_path, [0, 1, 2, 3], rank, **options)
                two = outputs_by_rank(tmp_path, [2, 3, 0, 1], rank, **options)
                results[hook, mode] = any(one[sample] != two[sample] for sample in one)
            else:
                one = build(tmp_path, order=[0, 1, 2, 3], **options).val()['outputs']
                two = build(tmp_path, order=[2, 3, 0, 1], **options).val()['outputs']
                results[hook, mode] = not torch.equal(one, two[[2, 3, 0, 1]])
    queue.put((rank, results))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


def outputs_by_rank(tmp_path, order, rank, **options):
    runner = build(tmp_path, order=order, **options)
    assert isinstance(runner.model, nn.parallel.DistributedDataParallel)
    runner.train()
    losses = next(hook for hook in runner.hooks if isinstance(hook, TrainLosses)).losses
    return dict(zip(order[rank::2], losses, strict=True))


def test_two_processes(tmp_path):
    queue = FORK.Queue()
    processes = [FORK.Process(target=_distributed, args=(rank, tmp_path, queue)) for rank in (0, 1)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    results = dict(queue.get() for _ in processes)
    for rank in (0, 1):
        assert results[rank][True, 'train'] is False
        assert results[rank][False, 'train'] is True
        assert results[rank][True, 'val'] is False
        assert results[rank][False, 'val'] is True


def test_module_added_after_the_first_reset():
    model = nn.Sequential(nn.Linear(3, 3))
    reset_spikes(model)
    functional.reset_net(model)  # spikingjelly remembers from here on that there is nothing to reset
    model.append(neuron.LIFNode(tau=2.0))
    model.append(LIF(tau=2.0, stateful=True))
    assert len(list(stateful_modules(model))) == 2
    x = torch.full((2, 3), 0.7)
    model[1](x)
    model[2](x[None])
    assert model[2].v is not None and isinstance(model[1].v, torch.Tensor)
    reset_spikes(model)
    assert model[2].v is None and model[1].v == 0.0


def test_default_backbone_is_the_same_in_every_forward():
    model = MetaSpikeFormer(arch=dict(dims=[8, 16, 32, 40], depths=(1, 1, 1, 1, 1)), T=2).eval()
    assert list(stateful_modules(model)) == []
    image, other = torch.randn(1, 3, 48, 64), torch.randn(1, 3, 48, 64)
    first = model(image)
    model(other)  # another crop in the same iteration, as sliding windows and TTA do
    for a, b in zip(first, model(image), strict=True):
        assert torch.equal(a, b)


class Stops(BaseModel):
    """A segmentor tested in windows whose first prediction fails."""

    def __init__(self):
        super().__init__()
        self.backbone = LIF(stateful=True)
        self.test_cfg = dict(mode='slide')

    def forward(self, inputs, mode='tensor'):
        raise RuntimeError('broken sample')


def test_a_validation_that_fails_leaves_no_hook_for_the_next():
    model = Stops()
    runner = SimpleNamespace(model=model, hooks=[])
    hook = SpikeResetHook()
    hook.after_val_epoch(runner)  # without an epoch before: there is nothing to remove
    for _ in range(2):  # an epoch that fails gets to no after_val_epoch
        hook.before_val_epoch(runner)
        with pytest.raises(RuntimeError, match='broken sample'):
            model.test_step(dict(inputs=torch.zeros(1)))
        assert len(model.backbone._forward_pre_hooks) == 1
    hook.after_val_epoch(runner)
    assert not model.backbone._forward_pre_hooks
