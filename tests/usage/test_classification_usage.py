"""Inferencer and test-time augmentation of mmpretrain on classifiers that are spiking from end to end."""

import cv2
import pytest
import torch
from mmengine.registry import MODELS

pytest.importorskip('mmpretrain')
from mmpretrain import ImageClassificationInferencer  # noqa: E402

from mmspike.config.testing import enable_tta  # noqa: E402
from mmspike.models.inspection import reset_spikes  # noqa: E402

from .tiny import CLASSES, NEURONS, assert_same, build, config, pick, predict, samples, save  # noqa: E402


@pytest.mark.parametrize('neuron', NEURONS)
def test_inferencer_is_pipeline_and_prediction(shapes, tmp_path, neuron):
    cfg = config('mmpretrain', neuron, shapes)
    model = build(cfg)
    batch = samples(cfg, 'test_dataloader', 3)
    expected = [predict(model, pick(batch, [i]))[0] for i in range(3)]
    assert not torch.equal(expected[0].pred_score, expected[1].pred_score)

    inferencer = ImageClassificationInferencer(cfg, save(model, tmp_path / 'w.pth', CLASSES), device='cpu')
    paths = [sample.img_path for sample in batch['data_samples']]

    def infer(inputs, **kwargs):
        return inferencer(inputs, return_datasamples=True, **kwargs)

    for results in (infer(paths), infer(paths), infer(paths[::-1])[::-1], infer([cv2.imread(p) for p in paths])):
        for result, wanted in zip(results, expected, strict=True):
            assert_same(result, wanted)
    for result, wanted in zip(infer(paths, batch_size=3), expected, strict=True):
        assert_same(result, wanted, exact=False)
    assert inferencer(paths[0])[0]['pred_class'] == CLASSES[int(expected[0].pred_score.argmax())]


def test_inferencer_with_stateful_neurons(shapes, tmp_path):
    """There is no runner and no SpikeResetHook: the model itself starts every forward from rest."""
    cfg = config('mmpretrain', 'LIF', shapes)
    model = build(cfg)
    weights = save(model, tmp_path / 'w.pth', CLASSES)
    batch = samples(cfg, 'test_dataloader', 2)
    expected = predict(model, pick(batch, [1]))[0].pred_score
    cfg.model.backbone.neuron.stateful = cfg.model.head.neuron.stateful = True
    inferencer = ImageClassificationInferencer(cfg, weights, device='cpu')
    paths = [sample.img_path for sample in batch['data_samples']]
    assert not torch.equal(inferencer(paths, return_datasamples=True)[1].pred_score, expected)
    inferencer.model.register_forward_pre_hook(lambda model, args: reset_spikes(model))
    assert torch.equal(inferencer(paths, return_datasamples=True)[1].pred_score, expected)


@pytest.mark.parametrize('neuron', NEURONS)
def test_tta_is_the_mean_of_the_views(shapes, neuron):
    cfg = config('mmpretrain', neuron, shapes)
    model = build(cfg)
    enable_tta(cfg)
    cfg.model.module.data_preprocessor = dict(type='ClsDataPreprocessor') | dict(cfg.data_preprocessor)
    tta = MODELS.build(cfg.model).eval()
    tta.module.load_state_dict(model.state_dict())
    batch = samples(cfg, 'test_dataloader', 1)
    first, again = (predict(tta, batch)[0] for _ in range(2))
    assert torch.equal(first.pred_score, again.pred_score)
    plain = {key: value[1] for key, value in batch.items()}
    assert not plain['data_samples'][0].flip
    scores = predict(model, pick(plain, [0]))[0].pred_score
    plain['inputs'] = plain['inputs'].flip(-1)
    flipped = predict(model, pick(plain, [0]))[0].pred_score
    assert not torch.equal(scores, flipped)
    torch.testing.assert_close(first.pred_score, (scores + flipped) / 2)
