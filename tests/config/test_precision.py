"""--amp and --tf32: what is typed, and what becomes of it with and without a GPU."""

import argparse

import pytest
import torch
from mmengine.config import Config, ConfigDict
from torch import nn

from mmspike.config import precision
from mmspike.config.options import add_amp_option, add_device_option, add_tf32_option, parse
from mmspike.config.resume_settings import resolve_settings
from mmspike.registry import MODELS
from mmspike.utils.errors import UserError


@pytest.fixture
def gpu(monkeypatch):
    """A machine that says it has a GPU; with bfloat16, if the fixture's value is set to True."""
    has_bf16 = [True]
    monkeypatch.setattr(torch.accelerator, 'is_available', lambda: True)
    monkeypatch.setattr(torch.accelerator, 'current_accelerator', lambda: torch.device('cuda'))
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation=True: has_bf16[0] or including_emulation)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'Turing')
    return has_bf16


def read(*arguments):
    parser = argparse.ArgumentParser()
    parser.add_argument('config')
    parser.add_argument('--cfg-options', nargs='+')
    add_amp_option(parser)
    add_tf32_option(parser, True)
    return parse(parser, list(arguments))


def config(**wrapper):
    return Config(dict(optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)) | wrapper))


@pytest.mark.parametrize(
    'given, amp',
    [
        (['c.py'], None),
        (['--amp', 'c.py'], 'default'),
        (['c.py', '--amp'], 'default'),
        (['c.py', '--amp', '--cfg-options', 'a=1'], 'default'),
        (['--amp', 'bf16', 'c.py'], 'bf16'),
        (['c.py', '--amp', 'fp16'], 'fp16'),
        (['--amp=bf16', 'c.py'], 'bf16'),
        (['--amp', 'bf16_sweep.py'], 'default'),
    ],
)
def test_amp_as_it_is_typed(given, amp):
    args = read(*given)
    assert args.amp == amp and args.config.endswith('.py')


def test_types_that_do_not_exist(capsys):
    for name in ('float16', 'fp8', 'int4', 'half'):
        with pytest.raises(SystemExit):
            read('--amp', name, 'c.py')
        assert f'argument --amp: invalid choice: {name!r}' in capsys.readouterr().err


def test_on_the_cpu():
    for choice in ('default', 'bf16'):
        cfg = config(loss_scale=512.0, dtype='float16')
        precision.enable_amp(cfg, choice)
        assert cfg.optim_wrapper == config(type='CPUAmpOptimWrapper').optim_wrapper
    with pytest.raises(UserError, match='--amp bf16 works there'):
        precision.enable_amp(config(), 'fp16')


def test_on_a_gpu(gpu):
    def enabled(choice, **wrapper):
        cfg = config(**wrapper)
        precision.enable_amp(cfg, choice)
        assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
        return cfg.optim_wrapper.dtype, cfg.optim_wrapper.loss_scale

    off = dict(enabled=False)
    assert enabled('default') == enabled('fp16') == ('float16', 'dynamic')
    assert enabled('bf16') == enabled('bf16', loss_scale=512.0) == ('bfloat16', off)
    assert enabled('fp16', loss_scale=512.0) == ('float16', 512.0)
    for dtype in ('bfloat16', torch.bfloat16):
        assert enabled('default', dtype=dtype) == ('bfloat16', off)
        assert enabled('fp16', dtype=dtype) == ('float16', 'dynamic')
    gpu[0] = False
    assert enabled('default') == ('float16', 'dynamic')
    with pytest.raises(UserError, match='Turing has no bfloat16, .* use --amp fp16'):
        precision.enable_amp(config(), 'bf16')


def test_mixed_precision_can_change_where_the_state_allows_it(gpu):
    """A scaler that is off ignores the state of one that was on; the other way round there is none."""

    def resume(before, after):
        old, new = config(), config()
        precision.enable_amp(old, before)
        precision.enable_amp(new, after)
        resolve_settings(new, 'epoch_1.pth', dict(cfg=old.pretty_text, seed=None, epoch=1, iter=2), None)

    resume('fp16', 'bf16')
    resume('bf16', 'bf16')
    with pytest.raises(UserError, match='loss_scale'):
        resume('bf16', 'fp16')


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def test_step(self, data):
        return self.layer(data)


def test_a_test_in_mixed_precision():
    network, x = Network(), torch.randn(1, 2)
    precision.halve_test_step(network, 'default')
    assert network.test_step(x).dtype == torch.bfloat16 and network.layer(x).dtype == torch.float32
    with pytest.raises(UserError, match='fp16 needs a GPU'):
        precision.halve_test_step(Network(), 'fp16')
    with pytest.raises(UserError, match='strategy'):
        precision.halve_test_step(dict(type='ImageClassifier'), 'bf16')


class Detector(nn.Module):
    """A head on what a network in half precision gives it, whose boxes numpy reads."""

    def __init__(self):
        super().__init__()
        head = dict(num_classes=2, in_channels=[4], box_channels=4, cls_channels=4, bins=4, strides=(8,))
        self.head = MODELS.build(dict(type='mmspike.SpikingYOLOHead', **head))
        self.layer = nn.Conv2d(4, 4, 1)

    def test_step(self, x):
        meta = dict(img_shape=(320, 320), scale_factor=(1.0, 1.0), ori_shape=(320, 320))
        cfg = ConfigDict(nms_pre=9, score_thr=-1.0, min_bbox_size=-1, nms=dict(type='nms', iou_threshold=0.9), max_per_img=9)
        return self.head.predict_by_feat(*self.head((self.layer(x)[None],)), batch_img_metas=[meta], cfg=cfg)[0]


def test_boxes_are_no_halves():
    """In bfloat16 a coordinate of 300 is one of 300 or 302."""
    pytest.importorskip('mmdet')
    torch.manual_seed(0)
    detector, x = Detector().eval(), torch.randn(1, 4, 40, 40)
    precision.halve_test_step(detector, 'bf16')
    with torch.no_grad():
        result = detector.test_step(x)
    boxes = result.bboxes.numpy()
    assert result.scores.dtype == torch.float32 and len(boxes) == 9
    assert (boxes != torch.from_numpy(boxes).bfloat16().float().numpy()).any()


@pytest.fixture
def tf32_as_before():
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def test_tf32(tf32_as_before):
    """Products of spike counts are never rounded to TF32."""
    torch.backends.cuda.matmul.allow_tf32 = True
    for on in (True, False):
        precision.set_tf32(on)
        assert torch.backends.cudnn.allow_tf32 is on and torch.backends.cuda.matmul.allow_tf32 is False
    assert read('c.py').tf32 and not read('c.py', '--no-tf32').tf32
    counting = argparse.ArgumentParser()
    add_device_option(counting)
    assert not counting.parse_args([]).tf32 and counting.parse_args(['--tf32']).tf32
