"""Sliding windows, test-time augmentation and inferencer of mmseg on segmentors that are spiking from end to end."""

from copy import deepcopy

import cv2
import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from torch.nn import functional

pytest.importorskip('mmseg')
from mmseg.apis import MMSegInferencer  # noqa: E402

from mmspike.config import launch  # noqa: E402
from mmspike.config.testing import enable_tta  # noqa: E402
from mmspike.models.inspection import stateful_modules  # noqa: E402

from .tiny import CLASSES, NEURONS, SIZE, assert_same, build, config, pick, predict, samples, save  # noqa: E402

CLASS_NAMES = ('background', *CLASSES)
SLIDE = dict(mode='slide', crop_size=(64, 64), stride=(32, 32))


def windows(model, image):
    """Mean logits of the windows of SLIDE, last window first."""
    total, count = torch.zeros(1, len(CLASS_NAMES), SIZE, SIZE), torch.zeros(SIZE, SIZE)
    for y in (32, 0):
        for x in (32, 0):
            logits = model(image[..., y : y + 64, x : x + 64], mode='tensor')
            total[..., y : y + 64, x : x + 64] += functional.interpolate(logits, (64, 64), mode='bilinear')
            count[y : y + 64, x : x + 64] += 1
    return (total / count)[0]


@pytest.mark.parametrize('neuron', NEURONS)
def test_slide_is_the_mean_of_the_windows(shapes, neuron):
    cfg = config('mmseg', neuron, shapes)
    model = build(cfg)
    batch = samples(cfg, 'test_dataloader', 2)
    model.test_cfg.update(SLIDE)
    results = predict(model, pick(batch, [0, 1]))
    with torch.no_grad():
        for i in (1, 0):
            image = model.data_preprocessor(deepcopy(pick(batch, [i])))['inputs']
            torch.testing.assert_close(results[i].seg_logits.data, windows(model, image), rtol=1e-5, atol=1e-5)
            assert_same(predict(model, pick(batch, [i]))[0], results[i], exact=False)


@pytest.mark.parametrize('neuron', NEURONS)
def test_tta_is_the_mean_of_the_views(shapes, neuron):
    cfg = config('mmseg', neuron, shapes)
    model = build(cfg)
    enable_tta(cfg)
    tta = MODELS.build(cfg.model).eval()
    tta.module.load_state_dict(model.state_dict())
    batch = samples(cfg, 'test_dataloader', 1)
    first, again = (predict(tta, batch)[0] for _ in range(2))
    assert_same(first, again)
    plain = {key: value[0] for key, value in batch.items()}
    assert not plain['data_samples'][0].flip
    with torch.no_grad():
        image = model.data_preprocessor(deepcopy(pick(plain, [0])))['inputs']
        views = [functional.interpolate(model(x), image.shape[-2:], mode='bilinear') for x in (image, image.flip(-1))]
    expected = (views[0].softmax(1) + views[1].flip(-1).softmax(1))[0].argmax(0)
    assert torch.equal(first.pred_sem_seg.data[0], expected)
    assert not torch.equal(expected, views[0][0].argmax(0))  # the second view counts


@pytest.mark.parametrize('neuron', NEURONS)
def test_inferencer_is_pipeline_and_prediction(shapes, tmp_path, neuron):
    cfg = config('mmseg', neuron, shapes)
    model = build(cfg)
    batch = samples(cfg, 'test_dataloader', 2)
    expected = [predict(model, pick(batch, [i]))[0] for i in range(2)]
    assert not torch.equal(expected[0].pred_sem_seg.data, expected[1].pred_sem_seg.data)

    weights = save(model, tmp_path / 'w.pth', CLASS_NAMES)
    palette = [[50 * i, 0, 0] for i in range(len(CLASS_NAMES))]
    inferencer = MMSegInferencer(cfg, weights, classes=list(CLASS_NAMES), palette=palette, device='cpu', show_progress=False)
    paths = [str(shapes / 'val' / f'{i:06d}.png') for i in range(2)]

    def infer(inputs):
        results = inferencer(inputs, return_datasamples=True)
        return results if isinstance(results, list) else [results]

    for results in (infer(paths), infer(paths), infer(paths[::-1])[::-1], infer([cv2.imread(p) for p in paths])):
        for result, wanted in zip(results, expected, strict=True):
            assert_same(result, wanted)
    labels = inferencer(paths[0], out_dir=str(tmp_path / 'out'))['predictions']
    assert np.array_equal(labels, expected[0].pred_sem_seg.data[0].numpy())
    assert len(list((tmp_path / 'out').rglob('*.png'))) == 2  # labels and picture


class Predictions(Hook):
    """Keeps what the model predicts in validation and test, by image."""

    def __init__(self):
        self.logits = {}

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.logits.update({sample.img_path: sample.seg_logits.data for sample in outputs})

    after_val_iter = after_test_iter


@pytest.mark.parametrize('mode', ['val', 'test'])
def test_stateful_neurons_start_every_window_from_rest(shapes, tmp_path, mode):
    cfg = config('mmseg', 'LIF', shapes)
    model = build(cfg)
    for part in ('backbone', 'neck', 'decode_head'):
        cfg.model[part].neuron.stateful = True
    cfg.model.test_cfg = SLIDE
    cfg.work_dir = str(tmp_path)
    cfg.launcher = 'none'
    cfg.update(train_dataloader=None, train_cfg=None, optim_wrapper=None, param_scheduler=None)
    runner = launch.build_runner(cfg)
    runner.load_or_resume()
    runner.model.load_state_dict(model.state_dict())
    assert len(list(stateful_modules(runner.model))) > 20
    hook = Predictions()
    runner.register_hook(hook)
    getattr(runner, mode)()
    batch = samples(cfg, 'test_dataloader', 2)
    with torch.no_grad():
        for i in range(2):
            image = model.data_preprocessor(deepcopy(pick(batch, [i])))['inputs']
            found = hook.logits[batch['data_samples'][i].img_path]
            torch.testing.assert_close(found, windows(model, image), rtol=1e-5, atol=1e-5)
    # the hook has left the model as it was
    assert not runner.model.backbone._forward_pre_hooks
