"""A loss that is not finite stops the training and says where it comes from."""

import re

import pytest
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import HorizontalBoxes
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import nn

from mmspike.engine.hooks import finite_loss_hook
from mmspike.engine.hooks.finite_loss_hook import broken_box, first_broken_layer

BAD = 5  # the sample, one an iteration


class Exp(nn.Module):
    def forward(self, x):
        return x.exp()


class Lottery(nn.Module):
    """Gives an infinite output for one in ten of the random numbers it draws."""

    def forward(self, x):
        return x / (torch.rand(()) >= 0.1)


@DATASETS.register_module()
class FiniteDataset(torch.utils.data.Dataset):
    def __init__(self, value):
        self.value = value

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return dict(inputs=torch.full((4,), self.value if index == BAD else 0.1))


@MODELS.register_module()
class FiniteModel(BaseModel):
    def __init__(self, middle='exp', log=False):
        super().__init__()
        middle = dict(exp=Exp, lottery=Lottery)[middle]()
        first = nn.Linear(4, 4)
        nn.init.constant_(first.weight, 0.1)
        self.layers = nn.Sequential(first, nn.Sequential(nn.Identity(), middle), nn.Linear(4, 1))
        self.log = log

    def forward(self, inputs, mode):
        inputs = torch.stack(inputs)
        out = self.layers(inputs).mean()
        if self.log and inputs.max() > 1:
            out = out.detach().mul(0).log() * out
        zeros = [out.detach() * 0, out * torch.zeros(2)]  # mmengine takes the mean of several values
        return dict(loss_out=out, loss_list=zeros, acc=torch.tensor(float('nan')))


class Seen(Hook):
    """The model, and its weights before each iteration."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.model, self.number = runner.model, runner.iter + 1
        self.weights = [p.detach().clone() for p in runner.model.parameters()]


def train(tmp_path, value=0.1, lr=1e-3, checkpoint=None, accumulate=1, hooks=(), **model):
    torch.manual_seed(0)
    runner = Runner(
        model=dict(type='FiniteModel', **model),
        work_dir=str(tmp_path),
        train_dataloader=dict(batch_size=1, num_workers=0, sampler=None, dataset=dict(type='FiniteDataset', value=value)),
        train_cfg=dict(by_epoch=True, max_epochs=1),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=lr), accumulative_counts=accumulate),
        custom_hooks=[dict(type='mmspike.FiniteLossHook'), dict(type='mmspike.IterationSeedHook'), *hooks],
        default_hooks=dict(checkpoint=checkpoint, runtime_info=None, logger=None),
        randomness=dict(seed=1),
        log_level='ERROR',
        experiment_name=tmp_path.name,
    )
    runner.train()
    return runner


def failure(*args, **kwargs):
    with pytest.raises(FloatingPointError) as info:
        train(*args, **kwargs)
    message = str(info.value)
    assert 'the last checkpoint is from before' in message
    return message


def test_a_finite_training_ends(tmp_path):
    """What is no loss may be NaN."""
    runner = train(tmp_path, checkpoint=dict(type='mmspike.SafeCheckpointHook'))
    assert runner.iter == 40 and (tmp_path / 'epoch_1.pth').exists()
    model = runner.model
    assert not model._forward_hooks and not model._forward_pre_hooks
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


@pytest.mark.parametrize('accumulate', [1, 4])
def test_the_loss_is_looked_at_between_the_backward_pass_and_the_step(tmp_path, accumulate):
    """The GPU has the backward pass to do meanwhile; the weights are still those of before, with or without a step."""
    seen = Seen()
    message = failure(tmp_path, value=1e4, accumulate=accumulate, hooks=[seen])
    assert f'The loss of iteration {BAD + 1} ' in message and seen.number == BAD + 1
    assert not seen.model.layers[0].weight.grad.isfinite().any()
    assert all(torch.equal(p, old) for p, old in zip(seen.model.parameters(), seen.weights, strict=True))


def test_an_optimizer_that_does_not_say_when_it_steps(tmp_path, monkeypatch):
    """Then the loss is looked at before the backward pass."""
    monkeypatch.setattr(finite_loss_hook, 'Optimizer', int)
    seen = Seen()
    assert f'The loss of iteration {BAD + 1} ' in failure(tmp_path, value=1e4, hooks=[seen])
    assert all(p.grad is None for p in seen.model.parameters())


def test_the_layer_is_named(tmp_path):
    message = failure(tmp_path, value=1e4)
    assert f'The loss of iteration {BAD + 1} is not finite (loss_out = ' in message
    assert 'The first layer whose output is not finite: layers.1.1 (Exp): 4 of 4 values of its output (1, 4), from' in message
    assert re.search(r'inputs up to 4(\.\d+)?e\+03\.', message)
    assert 'learning rate' in message and 'clip_grad' in message


def test_a_random_layer_is_found_with_the_same_random_numbers(tmp_path):
    assert 'layers.1.1 (Lottery)' in failure(tmp_path, middle='lottery')


def test_images_labels_and_weights_are_told_apart(tmp_path):
    message = failure(tmp_path / 'a', value=float('nan'))
    assert 'The images themselves are not' in message and 'learning rate' not in message
    assert 'The output of every layer is' in failure(tmp_path / 'b', value=2.0, log=True)
    message = failure(tmp_path / 'c', lr=float('inf'))
    assert 'The loss of iteration 2 ' in message and 'parameters are not since an earlier iteration' in message
    assert 'layers.' in message


def test_a_box_without_size_is_named():
    good, flat = torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[1.0, 2, 3, 4], [154, 32, 154, 96]])
    samples = [
        DetDataSample(metainfo=dict(img_path=f'{name}.jpg'), gt_instances=InstanceData(bboxes=boxes))
        for name, boxes in (('a', good), ('b', HorizontalBoxes(flat)))
    ]
    assert broken_box(samples[:1]) is None and broken_box(None) is None and broken_box([object()]) is None
    assert '1 of 2 boxes of b.jpg have no size, the first is [154.0, 32.0, 154.0, 96.0]' in broken_box(samples)


def test_broken_weights_are_not_saved(tmp_path):
    message = failure(tmp_path, lr=float('inf'), checkpoint=dict(type='mmspike.SafeCheckpointHook', by_epoch=False, interval=1))
    assert 'are not finite after iteration 1' in message and 'not saved' in message
    assert not list(tmp_path.glob('*.pth*'))


def test_in_a_spiking_network():
    """Whatever is fused: each layer is looked at."""
    network = MODELS.get('mmspike.MetaSpikeFormer')(
        arch=dict(dims=(8, 16, 16, 16), depths=(1, 1, 1, 1, 1), num_heads=2), T=2, out_indices=(3,)
    )
    image = torch.randn(2, 3, 32, 32)
    assert first_broken_layer(network, (image,), {}) is None
    name = 'stages.1.0.conv'
    convs = [n for n, m in network.named_modules() if isinstance(m, nn.Conv2d) and n.startswith('stages.1')]
    name = convs[len(convs) // 2]
    with torch.no_grad():
        network.get_submodule(name).weight.fill_(float('inf'))
    assert first_broken_layer(network, (image,), {}).startswith(f'{name} (Conv2d): ')
