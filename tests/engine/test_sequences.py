"""Sequences through SpikeResetHook: membranes go on within a recording, and start from rest at another one."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.structures import BaseDataElement

from mmspike.engine import SpikeResetHook
from mmspike.models import LIF
from mmspike.utils.errors import UserError


def window(recording, start, end, continues):
    return BaseDataElement(metainfo=dict(recording=recording, window=(start, end), continues=continues))


def runner(neuron):
    return SimpleNamespace(model=neuron, hooks=[])


def step(hook, neuron, samples, phase='train'):
    getattr(hook, f'before_{phase}_iter')(runner(neuron), 0, dict(data_samples=samples))
    return neuron(torch.full((1, len(samples), 1), 0.8))[0, :, 0].tolist()


@pytest.fixture
def neuron():
    return LIF(tau=2.0, v_threshold=1.0, stateful=True)  # 0.8 brings it to 0.4, 0.6, 0.7, …


def membranes(neuron):
    return [round(v, 4) for v in neuron.v[:, 0].tolist()]


def test_places_go_on_and_start_anew(neuron):
    hook = SpikeResetHook()
    step(hook, neuron, [window('a', 0, 5, False), window('b', 0, 5, False)])
    step(hook, neuron, [window('a', 5, 10, True), window('c', 0, 5, False)])
    assert membranes(neuron) == [0.6, 0.4]
    step(hook, neuron, [window('a', 10, 15, True), window('c', 5, 10, True)])
    assert membranes(neuron) == [0.7, 0.6]


def test_to_compare_with_every_window_can_start_from_rest(neuron):
    hook = SpikeResetHook(sequences=False)
    for start, continues in ((0, False), (5, True)):
        step(hook, neuron, [window('a', start, start + 5, continues)])
        assert membranes(neuron) == [0.4]


@pytest.mark.parametrize('other', [window('b', 5, 10, True), window('a', 10, 15, True)])
def test_a_window_out_of_order_is_refused(neuron, other):
    hook = SpikeResetHook()
    step(hook, neuron, [window('a', 0, 5, False)])
    with pytest.raises(UserError, match='goes on from the one before it.*mmspike.StreamSampler'):
        step(hook, neuron, [other])


def test_membranes_of_training_wait_for_a_validation(neuron):
    hook = SpikeResetHook()
    step(hook, neuron, [window('a', 0, 5, False), window('b', 0, 5, False)])
    hook.before_val_epoch(runner(neuron))
    step(hook, neuron, [window('v', 0, 5, False)], 'val')
    assert membranes(neuron) == [0.4] and len(neuron.v) == 1
    hook.after_val_epoch(runner(neuron))
    step(hook, neuron, [window('a', 5, 10, True), window('b', 5, 10, True)])
    assert membranes(neuron) == [0.6, 0.6]
