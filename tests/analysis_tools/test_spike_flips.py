import json

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def config(tmp_path, repo):
    path = tmp_path / 'tiny.py'
    path.write_text(
        f"_base_ = '{repo}/configs/espike_cifar10.py'\n"
        'model = dict(backbone=dict(arch=dict(_delete_=True, dims=(8, 8, 16, 16), depths=(1, 1, 1, 1, 1), num_heads=2)), '
        'head=dict(in_channels=16))\n'
    )
    rng = np.random.default_rng(0)
    for i in range(3):
        file = tmp_path / 'data' / 'val' / f'class{i}' / 'image.png'
        file.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
    return path


def test_on_the_test_set_and_on_a_random_image(config, run_tool, tmp_path):
    classes = ','.join(f"'class{i}'" for i in range(3))
    options = [
        '--device',
        'cpu',
        '--data-root',
        tmp_path / 'data',
        '--cfg-options',
        f'test_dataloader.dataset.metainfo.classes=[{classes}]',
    ]
    result = run_tool(
        'analysis_tools/spike_flips.py',
        config,
        '--against',
        'bf16',
        '--num-images',
        2,
        '--layers',
        '--json',
        tmp_path / 'x.json',
        *options,
    )
    assert result.returncode == 0, result.stderr
    report = json.loads((tmp_path / 'x.json').read_text())
    assert report['batches'] == 2 and 0 < report['total']['flipped'] < report['total']['outputs']
    names = [stage['name'] for stage in report['stages']]
    assert names == ['backbone.stem', *(f'backbone.stages.{i}' for i in range(4)), 'head']
    for name in (*names, 'all', report['first']):
        assert f'| {name} ' in result.stdout
    assert 'No checkpoint was given' in result.stdout

    for against in ('folded', 'threads'):
        result = run_tool(
            'analysis_tools/spike_flips.py',
            config,
            '--against',
            against,
            '--shape',
            32,
            32,
            '--device',
            'cpu',
            '--data-root',
            tmp_path,
        )
        assert result.returncode == 0 and 'On a random image of 32 x 32 px' in result.stdout, result.stderr
    result = run_tool('analysis_tools/spike_flips.py', config, '--against', 'tf32', '--shape', 32, 32, '--device', 'cpu')
    assert result.returncode == 1 and 'needs an NVIDIA card since Ampere' in result.stderr
