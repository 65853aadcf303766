"""The demo end to end on a handful of pictures, its failures, and its config's strides."""

import functools
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import torch

pytest.importorskip('mmdet')

from mmdet.registry import MODELS  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.registry import init_default_scope  # noqa: E402

from mmspike.datasets import shapes  # noqa: E402

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def demo(monkeypatch):
    """tools/demo.py, for which 8 + 4 pictures are the whole data set."""
    spec = importlib.util.spec_from_file_location('demo', REPOSITORY / 'tools' / 'demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(shapes, 'write_shapes', functools.partial(shapes.write_shapes, num_train=8, num_val=4))
    return module


def call(demo, tmp_path, *options) -> int:
    """Exit status of the demo, briefly, with these changes to its config."""
    short = ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1']
    short += [
        f'{split}_dataloader.{o}' for split in ('train', 'val', 'test') for o in ('num_workers=0', 'persistent_workers=False')
    ]
    paths = ['--data-root', str(tmp_path / 'shapes'), '--work-dir', str(tmp_path / 'work')]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, 'argv', ['demo.py', *paths, '--cfg-options', *short, *options])
        return demo.main(demo.parse_args())


def test_demo_reports_and_reruns(demo, tmp_path, capsys, monkeypatch):
    # Two iterations learn nothing: the demo says so.
    assert call(demo, tmp_path) == 1
    out = capsys.readouterr().out
    assert re.search(r'iteration +2/2 +loss +[\d.]+ +[\d.]+ s/iteration +0:00 left', out)
    assert re.search(r'^  box +(-|[\d.]+)( +(-|[\d.]+)){5}$', out, re.MULTILINE)
    assert re.search(r'^  mask +(-|[\d.]+)( +(-|[\d.]+)){5}$', out, re.MULTILINE)
    assert re.search(r'The demo failed: box AP50 is 0\.\d+, at least 0\.5', out)
    assert 'mmengine' not in out and 'Epoch(train)' in (tmp_path / 'work' / 'demo.log').read_text()

    picture = Path(re.search(r'side by side: (\S+)', out)[1])
    first = cv2.imread(str(picture))
    assert first.shape[0] >= 2 * 128 and first.shape[1] >= 4 * 128

    monkeypatch.setattr(demo, 'REQUIRED_AP50', 0.0)
    picture.unlink()
    assert call(demo, tmp_path) == 0
    out = capsys.readouterr().out
    assert picture.is_file()
    checkpoint = Path(re.search(r'tools/test\.py \S+ (\S+\.pth)', out)[1])
    assert checkpoint.is_file()


def test_loss_that_is_not_finite_fails(demo, tmp_path, capsys):
    assert call(demo, tmp_path, 'model.rpn_head.loss_cls.loss_weight=1e39') == 1
    out = capsys.readouterr().out
    assert re.search(r'demo failed: FloatingPointError: The loss of iteration 1 is not finite \(loss_rpn_cls = (inf|nan)', out)
    assert 'Traceback' not in out and 'Traceback' in (tmp_path / 'work' / 'demo.log').read_text()


def test_occupied_data_root_fails(demo, tmp_path, capsys):
    (tmp_path / 'shapes').mkdir()
    (tmp_path / 'shapes' / 'mine.txt').write_text('mine')
    assert call(demo, tmp_path) == 1
    assert re.search(r'The demo failed: FileExistsError: .*shapes exists and holds', capsys.readouterr().out)


@pytest.mark.skipif(torch.cuda.is_available(), reason='fakes a GPU, and there is one')
def test_gpu_is_used_unless_declined(tmp_path):
    """torch is made to say that there is a GPU, as long as none is hidden: the demo moves its network there, which fails."""
    code = """
import os, runpy, sys, torch
torch.cuda.is_available = lambda: os.environ.get('CUDA_VISIBLE_DEVICES') != ''
torch.cuda.device_count = lambda: 1
demo = runpy.run_path(sys.argv.pop(1))
args = demo['parse_args']()
if args.cpu:
    from mmengine.device import get_device
    sys.exit(f'device {get_device()}')
sys.exit(demo['main'](args))
"""
    command = [sys.executable, '-c', code, str(REPOSITORY / 'tools' / 'demo.py')]
    paths = ['--data-root', str(tmp_path / 'shapes'), '--work-dir', str(tmp_path / 'work')]
    environment = {name: value for name, value in os.environ.items() if name != 'CUDA_VISIBLE_DEVICES'}
    gpu, cpu = (
        subprocess.Popen([*command, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for options in (paths, ['--cpu'])
    )
    out, err = gpu.communicate()
    assert gpu.returncode == 1 and re.search('The demo failed: .*(CUDA|NVIDIA)', out), out + err
    assert cpu.communicate()[1].splitlines()[-1] == 'device cpu'


def test_strides_of_features_anchors_and_rois_agree():
    cfg = Config.fromfile(REPOSITORY / 'configs' / 'mask_rcnn_metaspike_shapes.py')
    init_default_scope('mmdet')
    model = MODELS.build(cfg.model).eval()
    with torch.no_grad():
        features = model.extract_feat(torch.rand(1, 3, 128, 192))
    strides = [4, 8, 16, 32, 64]
    assert [tuple(f.shape[-2:]) for f in features] == [(128 // s, 192 // s) for s in strides]
    assert [s for s, _ in model.rpn_head.prior_generator.strides] == strides
    assert model.roi_head.bbox_roi_extractor.featmap_strides == strides[:4]
    assert model.roi_head.mask_roi_extractor.featmap_strides == strides[:4]
