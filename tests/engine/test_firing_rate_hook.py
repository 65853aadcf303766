"""FiringRateHook in real runs of mmengine."""

import json
import logging
import re

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mmspike.engine import FiringRateHook
from mmspike.models.inspection import stage_of
from mmspike.models.neurons import SFA


class Net(BaseModel):
    """Two stages; the neurons of the first see its four channels shifted by ``shift``."""

    def __init__(self, shift: float) -> None:
        super().__init__()
        self.shift = shift
        self.backbone = nn.ModuleDict(dict(stem=nn.Sequential(SFA(4), SFA(4)), stages=nn.ModuleList([nn.Sequential(SFA(4))])))
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor, mode: str = 'tensor') -> dict:
        x = inputs.new_tensor([-9.0, 0.0, 9.0, 2.0]).view(1, 1, 4, 1, 1) + self.shift
        x = x.expand(2, inputs.shape[0], 4, 3, 3) * self.weight
        y = self.backbone.stem(x) + self.backbone.stages[0][0](x.abs())
        return dict(loss=y.mean())


class Watch(Hook):
    """Notes in which iterations a module of the model has a forward hook."""

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.hooked = []

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.hooked.append(any(m._forward_hooks for m in runner.model.modules()))


def train(tmp_path, shift: float, interval: int, iterations: int, backends: list) -> Watch:
    watch = Watch()
    runner = Runner(
        model=Net(shift),
        work_dir=str(tmp_path),
        train_dataloader=DataLoader([dict(inputs=torch.zeros(1))] * iterations, batch_size=1, collate_fn=_collate),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iterations),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.0)),
        custom_hooks=[dict(type='mmspike.FiringRateHook', interval=interval), watch],
        visualizer=dict(type='Visualizer', vis_backends=backends),
        default_hooks=dict(checkpoint=None, logger=None),
        experiment_name=f'firing_{tmp_path.name}',
    )
    runner.train()
    assert not any(m._forward_hooks for m in runner.model.modules())
    return watch


def _collate(items: list[dict]) -> dict:
    return dict(inputs=torch.stack([item['inputs'] for item in items]))


def test_rates_dead_and_saturated_at_the_interval_only(tmp_path, caplog) -> None:
    caplog.set_level(logging.INFO)
    backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
    watch = train(tmp_path, 0.0, 3, 7, backends)
    assert watch.hooked == [False, False, True, False, False, True, False]
    (scalars,) = tmp_path.rglob('scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    lines = [line for line in lines if any(k.startswith('firing_rate/') for k in line)]
    assert [line['step'] for line in lines] == [3, 6]
    # counts 0, 0, 4, 2 in the first neuron: half of its channels are dead, half always fire
    name = 'backbone.stem.0'
    assert lines[0][f'firing_rate/{name}'] == pytest.approx(6 / 4)
    assert lines[0][f'dead/{name}'] == 0.5
    assert lines[0][f'saturated/{name}'] == 0.5
    assert lines[0]['firing_rate/backbone.stages.0.0'] == pytest.approx(10 / 4)
    assert list(tmp_path.rglob('events.out.tfevents*')), 'TensorBoard got them, too'
    text = '\n'.join(p.read_text() for p in tmp_path.rglob('*.log'))
    assert 'Firing rates at iteration 3' in text and 'Firing rates at iteration 6' in text
    # a line per stage, the mean of its layers, and one per layer
    assert re.search(r'^  backbone\.stem +0\.8750  62\.5%  37\.5%$', text, re.M)
    assert re.search(r'^    0 +1\.5000  50\.0%  50\.0%$', text, re.M)
    assert 'has died' not in text


def test_a_dead_stage_is_a_warning(tmp_path) -> None:
    train(tmp_path, -20.0, 1, 1, [dict(type='LocalVisBackend')])
    text = '\n'.join(p.read_text() for p in tmp_path.rglob('*.log'))
    assert 'WARNING - Stage backbone.stem has died: none of its 2 neuron layers fired in iteration 1' in text
    assert 'silent layers: backbone.stem.0, backbone.stem.1' in text
    assert 'Stage backbone.stages.0' not in text


@pytest.mark.parametrize('arguments', [dict(interval=0), dict(interval=True), dict(saturation=0), dict(saturation=1.1)])
def test_bad_arguments(arguments) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        FiringRateHook(**arguments)


def test_stages() -> None:
    assert stage_of('backbone.stem.1.sepconv.neuron1') == 'backbone.stem'
    assert stage_of('backbone.stages.2.1.attn.q_neuron') == 'backbone.stages.2'
    assert stage_of('backbone.stages.2.0') == 'backbone.stages.2'
    assert stage_of('stages.2.1.neuron1') == 'stages.2'
    assert stage_of('backbone.layer1.0.neuron') == 'backbone.layer1'
    assert stage_of('neck.lateral_convs.0.neuron') == 'neck'
    assert stage_of('rpn_head.rpn_conv.neuron') == 'rpn_head'
    assert stage_of('roi_head.mask_head.convs.0.neuron') == 'roi_head.mask_head'
    assert stage_of('roi_head.bbox_head.0.shared_fcs.0.neuron') == 'roi_head.bbox_head'
    assert stage_of('head.neuron') == 'head'


class Tokens(BaseModel):
    """Three channels of four tokens [T, B, N, C]: the second channel is silent, the third always fires."""

    def __init__(self) -> None:
        super().__init__()
        self.neuron = SFA(4)
        self.neuron.layout = 'TBNC'
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, inputs: Tensor, mode: str = 'tensor') -> dict:
        x = torch.tensor([[1.0, 0, 4], [0, 0, 4], [0, 0, 4], [0, 0, 4]]).expand(2, 1, 4, 3)
        return dict(loss=self.neuron(x * self.weight).mean())


def test_a_neuron_is_a_channel_whatever_its_axis(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(globals(), 'Net', lambda shift: Tokens())
    train(tmp_path, 0.0, 1, 1, [dict(type='LocalVisBackend')])
    (scalars,) = tmp_path.rglob('scalars.json')
    line = json.loads(scalars.read_text().splitlines()[0])
    assert line['dead/neuron'] == pytest.approx(1 / 3) and line['saturated/neuron'] == pytest.approx(1 / 3)
    assert line['firing_rate/neuron'] == pytest.approx((1 + 16) / 12)
