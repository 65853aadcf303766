"""Presets are found across backbones."""

import pytest
import torch

import mmspike
from mmspike.models.backbones import MetaSpikeFormer, SpikingBackbone
from mmspike.registry import MODELS


def test_presets_of_all_backbones_are_found():
    classes = {c for c in MODELS.module_dict.values() if isinstance(c, type) and issubclass(c, SpikingBackbone)}
    assert mmspike.list_archs() == sorted(arch for c in classes for arch in c.arch_settings)
    assert mmspike.list_archs('MetaSpikeFormer-*') == sorted(MetaSpikeFormer.arch_settings)
    assert mmspike.list_archs('bogus*') == []
    for arch in mmspike.list_archs():
        with torch.device('meta'):
            assert isinstance(MODELS.build(mmspike.get_arch(arch)), SpikingBackbone)


def test_an_unknown_preset_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="no backbone has the arch 'espikeformer-xl'; near are espikeformer-l"):
        mmspike.get_arch('espikeformer-xl')
    with pytest.raises(AttributeError, match='bogus'):
        mmspike.bogus  # noqa: B018
    with pytest.raises(AttributeError, match='ESpikeFormer.*are in mmspike.models'):
        mmspike.ESpikeFormer  # noqa: B018
