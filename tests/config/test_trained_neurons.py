"""Neurons that are others than in training are named; the weights alone would not tell."""

import warnings

import pytest
from mmengine.config import Config

from mmspike.config.trained_neurons import name_changed_neurons


def config(levels=4, T=1, width=8, **kwargs):
    neuron = dict(type='ILIF', levels=levels)
    parts = dict(backbone=dict(type='A', T=T, dims=(width, 8), neuron=neuron), bbox_head=dict(type='B', neuron=neuron))
    return Config(dict(model=dict(type='D', **parts, **kwargs)))


def test_the_same_neurons():
    """Whatever else changes."""
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        name_changed_neurons(config(), dict(cfg=config(width=4, test_cfg=dict(T=2)).pretty_text), 'a.pth')
        renamed = config().pretty_text.replace('levels=4', 'levels=4, norm=1')
        name_changed_neurons(Config.fromstring(renamed.replace('norm', 'divisor'), '.py'), dict(cfg=renamed), 'a.pth')
        for meta in ({}, dict(cfg='nothing'), dict(cfg=None), dict(cfg='lr = 1')):
            name_changed_neurons(config(), meta, 'a.pth')


@pytest.mark.parametrize(
    ('other', 'named'),
    [
        (
            dict(levels=8),
            ['- model.backbone.neuron.levels = 4', '+ model.backbone.neuron.levels = 8', 'model.bbox_head.neuron'],
        ),
        (dict(T=4), ['- model.backbone.T = 1', '+ model.backbone.T = 4']),
    ],
    ids=str,
)
def test_other_neurons(other, named):
    with pytest.warns(UserWarning, match='a.pth was trained with other neurons or time steps') as caught:
        name_changed_neurons(config(**other), dict(cfg=config().pretty_text), 'a.pth')
    assert all(line in str(caught[0].message) for line in named)
    assert ('bbox_head' in str(caught[0].message)) == ('levels' in other)
