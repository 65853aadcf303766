import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def config(tmp_path, repo):
    path = tmp_path / 'mae.py'
    path.write_text(
        f"_base_ = '{repo}/configs/espike/espikeformer-mae-small_pretrain_1xb64-30e_cifar10.py'\n"
        'model = dict(backbone=dict(arch=dict(_delete_=True, dims=(8, 8, 16), depths=(1, 1, 2, 1), num_heads=2)), '
        'neck=dict(in_channels=16))\n'
    )
    return path


def test_images_of_the_training_set_and_files(config, run_tool, tmp_path):
    rng = np.random.default_rng(0)
    for i in range(3):
        file = tmp_path / 'data' / 'train' / f'class{i}' / 'image.png'
        file.parent.mkdir(parents=True)
        Image.fromarray(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
    sizes = []
    for options in (('--data-root', tmp_path / 'data'), ('--images', file, '--mask-ratio', 0.75)):
        out = tmp_path / f'{len(sizes)}.png'
        result = run_tool('analysis_tools/plot_mae.py', config, *options, '-o', out, '--device', 'cpu')
        assert result.returncode == 0, result.stderr
        sizes.append(Image.open(out).size)
    assert sizes[0][1] > 2 * sizes[1][1]  # three rows, and one


def test_only_autoencoders(repo, run_tool, tmp_path):
    file = tmp_path / 'image.png'
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(file)
    result = run_tool(
        'analysis_tools/plot_mae.py',
        repo / 'configs/espike_cifar10.py', '--images', file, '-o', tmp_path / 'x.png', '--device', 'cpu',
    )  # fmt: skip
    assert result.returncode == 1 and 'expected mmspike.SpikeMAE' in result.stderr
    result = run_tool('analysis_tools/plot_mae.py', repo / 'configs/espike_cifar10.py', '--images', 'none.png', '-o', 'x.png')
    assert result.returncode == 1 and '--images none.png does not exist' in result.stderr
