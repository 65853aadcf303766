"""Counting training steps on a GPU that is not there."""

import importlib.util
import json

import pytest
import torch

from mmspike.models import ESpikeFormer, MetaSpikeFormer

pytestmark = pytest.mark.skipif(not torch.backends.cuda.is_built(), reason='fake CUDA tensors need a CUDA build of PyTorch')
ARCH = dict(dims=(8, 8, 12, 16), depths=(1, 0, 0, 1, 0), num_heads=2)


@pytest.fixture
def tool(repo):
    spec = importlib.util.spec_from_file_location('cuda_model', repo / 'tools/benchmarks/cuda_model.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def counted(tool, capsys, build, **case):
    tool.network = lambda case: build(case)
    tool.worker(dict(size=(64, 64), precision='float16', batch=2, way='ours') | case)
    return json.loads(capsys.readouterr().out)


def test_the_kernels_save_memory_and_launches(tool, capsys):
    def lif(case):
        neuron = dict(type=tool.stand_in()) if case['way'] == 'spikingjelly' else None
        return MetaSpikeFormer(ARCH, T=4, neuron=neuron)

    ours, plain, jelly = (counted(tool, capsys, lif, way=way) for way in ('ours', 'plain', 'spikingjelly'))
    assert not ours['elsewhere']
    for other in (plain, jelly):
        assert ours['saved'] < 0.6 * other['saved']
        assert ours['forward'] + ours['backward'] < 0.6 * (other['forward'] + other['backward'])
    assert jelly['saved'] > plain['saved']  # membranes in float32
    assert ours['peak'] > ours['saved']


def test_memory_grows_by_the_image(tool, capsys):
    one, two, three = (counted(tool, capsys, lambda case: ESpikeFormer(ARCH), batch=b) for b in (1, 2, 3))
    image = two['peak'] - one['peak']
    assert abs(three['peak'] - two['peak'] - image) < 0.1 * image


def test_the_largest_batch_is_what_fits(tool):
    gib = tool.GIB
    one, two = (dict(peak=(1 + n) * gib, weights=0.5 * gib, trained=gib / 16) for n in (1, 2))
    # 24 GiB, 1 reserved, a tenth of the rest lost: 20.7; 1 at every batch, 0.5 of weights and 0.5 of AdamW's states leave 18.7
    assert tool.largest_batch(one, two, 24) == 18
    assert tool.largest_batch(one, two, 2) == 0
