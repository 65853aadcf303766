import importlib.util
import json
from pathlib import Path

import pytest
import torch

from mmspike.models.backbones import ESpikeFormer, MaxFormer, MetaSpikeFormer

DIMS, DEPTHS = (16, 16, 32, 48), (1, 1, 1, 1, 1)


def load(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize('family', ['MetaSpikeFormer', 'ESpikeFormer', 'MaxFormer'])
def test_the_straightforward_network_is_the_same_function(family, repo):
    name = 'straightforward_max_former' if family == 'MaxFormer' else 'straightforward'
    straightforward = load(repo / f'tools/benchmarks/{name}.py')
    arch = dict(dims=DIMS, depths=DEPTHS)
    if family == 'MetaSpikeFormer':
        ours, theirs = MetaSpikeFormer(arch, T=2), straightforward.meta_spikeformer(DIMS, DEPTHS, 2)
    elif family == 'MaxFormer':
        dims, depths = (16, 32, 64), (1, 1, 1)
        ours = MaxFormer(dict(dims=dims, depths=depths, num_heads=1), T=2)
        theirs = straightforward.MaxFormer(dims, depths, 2)
    else:
        ours, theirs = ESpikeFormer(arch), straightforward.e_spikeformer(DIMS, DEPTHS, 1)
    for value in ours.state_dict().values():
        if value.dim() == 1 and value.is_floating_point():
            value.uniform_(0.5, 1.5)
        elif value.dim() > 1:
            value.mul_(2)  # so that all of it fires
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours, theirs = ours.double(), theirs.double()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for training in (False, True):
        for a, b in zip(ours.train(training)(x), theirs.train(training)(x), strict=True):
            assert b.std() > 0.1
            torch.testing.assert_close(a, b)


def test_the_straightforward_detector_is_the_same_function(repo):
    pytest.importorskip('mmdet')
    from mmspike.models import SpikingYOLOBackbone, SpikingYOLOPAFPN
    from mmspike.models.detection import SpikingYOLOHead

    dims, T = (8, 8, 16, 24), 2
    neuron = dict(type='ILIF', levels=4)
    ours = torch.nn.ModuleDict(
        dict(
            backbone=SpikingYOLOBackbone(
                dict(dims=dims, depths=DEPTHS[:4]), T, neuron=neuron, temporal_output='keep', out_indices=(0, 1, 2)
            ),
            neck=SpikingYOLOPAFPN(dims[1:], 8, neuron=neuron),
            bbox_head=SpikingYOLOHead(3, [8, 16, 32], neuron=neuron),
        )
    )
    theirs = load(repo / 'tools/benchmarks/straightforward_yolo.py').SpikeYOLO(dims, DEPTHS[:4], classes=3, T=T)
    for value in ours.state_dict().values():
        if value.dim() == 1 and value.is_floating_point():
            value.uniform_(0.5, 1.5)
        elif value.dim() > 1:
            value.mul_(2)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    ours, theirs = ours.double(), theirs.double()
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for training in (False, True):
        ours.train(training), theirs.train(training)
        outs = ours['bbox_head'](ours['neck'](ours['backbone'](x)))
        for a, b in zip(sum(outs, []), sum(theirs(x), []), strict=True):
            assert b.std() > 0.1
            torch.testing.assert_close(a, b)


def test_the_straightforward_query_decoder_is_the_same_function(repo, monkeypatch):
    pytest.importorskip('mmdet')
    from mmspike.models.mask_former import SpikingQueryDecoder

    monkeypatch.syspath_prepend(repo / 'tools/benchmarks')
    sizes = dict(channels=16, num_queries=5, num_layers=3, num_heads=2, mlp_channels=32, num_levels=2)
    ours = SpikingQueryDecoder(**sizes, neuron=dict(type='SFA', levels=4), norm_cfg=dict(type='BN'))
    theirs = load(repo / 'tools/benchmarks/straightforward_query_decoder.py').QueryDecoder(**sizes)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    maps = [torch.randn(1, 2, 16, n, n, dtype=torch.float64) * 3 for n in (4, 8)]
    for training in (True, False):
        a, b = ours.double().train(training)(maps), theirs.double().train(training)(maps)
        torch.testing.assert_close(a, b)
    assert (a[-1] - a[0]).std() > 0.1


def test_bars_are_judged(repo):
    benchmark = load(repo / 'tools/benchmark.py')
    results = []
    for case, names, _ in benchmark.plan(benchmark.argparse.Namespace(quick=True, repeats=3)):
        ones = dict(time=1.0, memory=1.0, images_per_second=1.0)
        results.append(dict(case=case, results=dict(ours=ones | dict(time=0.1, memory=0.1)) | dict.fromkeys(names, ones)))
    text, held = benchmark.bars(results)
    assert held and 'MISSED' not in text and text.count('held') == len(benchmark.BARS)
    results[0]['results']['ours']['memory'] = 0.5
    text, held = benchmark.bars(results)
    assert not held and text.count('MISSED') == 1


def test_measures_side_by_side(run_tool, tmp_path, repo):
    out = tmp_path / 'result'
    arguments = ['--models', 'espikeformer-t', '--sizes', '64', '--batch', '1', '--repeats', '1', '--kinds', 'train']
    arguments += ['--against', 'straightforward', '--against-build', repo, '--threads', '1', '--clock', 'cpu']
    result = run_tool('benchmark.py', *arguments, '--out', out)
    assert result.returncode == 0
    (entry,) = json.loads(out.with_suffix('.json').read_text())['results']
    assert set(entry['results']) == {'ours', 'straightforward', f'build {repo}'}
    for r in entry['results'].values():
        assert len(r['times']) == 2 and r['time'] > 0 and r['memory'] >= r['idle'] > 50
    text = out.with_suffix('.md').read_text()
    assert '1 threads, cpu time' in text and '| straightforward |' in text


def test_unknown_networks_are_named(run_tool):
    result = run_tool('benchmark.py', '--models', 'espikeformer-t', 'bogus')
    assert result.returncode == 2
    assert '--models bogus: no such preset; there are ' in result.stderr
    assert 'metaspikeformer-15m' in result.stderr and 'espikeformer-t' in result.stderr
    result = run_tool('benchmark.py', '--against-build', str(Path(__file__).parent))
    assert result.returncode == 2 and 'no checkout of this project, it has no mmspike/__init__.py' in result.stderr


def test_ways_of_the_memory_benchmark(run_tool):
    result = run_tool('benchmarks/mask_rcnn_memory.py', 'bogus')
    assert result.returncode == 2 and "invalid choice: 'bogus'" in result.stderr and 'recomputed' in result.stderr
