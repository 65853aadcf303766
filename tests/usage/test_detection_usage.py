"""Inferencer and test-time augmentation of mmdet on detectors that are spiking from end to end."""

import random
import shutil

import cv2
import numpy as np
import pytest
import torch
from mmcv.ops import batched_nms
from mmengine.registry import DATASETS, MODELS

pytest.importorskip('mmdet')
from mmdet.apis import DetInferencer  # noqa: E402

from mmspike.config.testing import enable_tta  # noqa: E402
from mmspike.models.inspection import reset_spikes  # noqa: E402

from .tiny import CLASSES, NEURONS, SIZE, assert_same, build, config, pick, predict, samples, save  # noqa: E402


@pytest.mark.parametrize('neuron', NEURONS)
def test_inferencer_is_pipeline_and_prediction(shapes, tmp_path, neuron):
    cfg = config('mmdet', neuron, shapes)
    model = build(cfg)
    batch = samples(cfg, 'test_dataloader', 2)
    expected = [predict(model, pick(batch, [i]))[0] for i in range(2)]
    assert not torch.equal(expected[0].pred_instances.bboxes, expected[1].pred_instances.bboxes)

    inferencer = DetInferencer(cfg, save(model, tmp_path / 'w.pth', CLASSES), device='cpu', show_progress=False)
    paths = [str(shapes / 'val' / f'{i:06d}.png') for i in range(2)]

    def infer(inputs, **kwargs):
        return inferencer(inputs, return_datasamples=True, no_save_vis=True, **kwargs)['predictions']

    # again, alone, in another order and from memory: no image sees the one before it
    for results in (infer(paths), infer(paths), infer(paths[::-1])[::-1], infer([cv2.imread(p) for p in paths])):
        for result, wanted in zip(results, expected, strict=True):
            assert_same(result, wanted)
    for result, wanted in zip(infer(paths, batch_size=2), expected, strict=True):
        assert_same(result, wanted, exact=False)
    drawn = inferencer(paths, out_dir=str(tmp_path / 'out'), no_save_pred=False)
    assert len(drawn['predictions'][0]['scores']) == len(expected[0].pred_instances)
    assert {f.name for f in (tmp_path / 'out').rglob('000000.*')} == {'000000.png', '000000.json'}


@pytest.mark.parametrize('neuron', NEURONS)
def test_tta_merges_the_views(shapes, neuron):
    """mmdet merges boxes: ``--tta`` takes the mask head off."""
    cfg = config('mmdet', neuron, shapes)
    model = build(cfg)
    enable_tta(cfg)
    assert cfg.model.module.roi_head.mask_head is None
    tta = MODELS.build(cfg.model).eval()
    fits = tta.module.load_state_dict(model.state_dict(), strict=False)
    assert not fits.missing_keys and all('mask_head' in key for key in fits.unexpected_keys)

    batch = samples(cfg, 'test_dataloader', 1)
    with torch.no_grad():
        merged, again = (predict(tta, batch)[0].pred_instances for _ in range(2))
    assert torch.equal(merged.bboxes, again.bboxes) and torch.equal(merged.scores, again.scores)

    model.roi_head.mask_head = None
    model.roi_head.mask_roi_extractor = None
    views = dict(zip([s[0].flip for s in batch['data_samples']], range(2), strict=True))
    data = {key: [value[views[False]][0]] for key, value in batch.items()}
    plain = predict(model, pick(data, [0]))[0].pred_instances
    data['inputs'][0] = data['inputs'][0].flip(-1)
    flipped = predict(model, pick(data, [0]))[0].pred_instances
    boxes = flipped.bboxes.clone()
    boxes[:, [0, 2]] = SIZE - flipped.bboxes[:, [2, 0]]
    boxes, scores = torch.cat([boxes, plain.bboxes]), torch.cat([flipped.scores, plain.scores])
    boxes, _ = batched_nms(boxes, scores, torch.cat([flipped.labels, plain.labels]), cfg.tta_model.tta_cfg.nms)
    assert len(boxes) > 20  # of both views
    torch.testing.assert_close(merged.bboxes, boxes[:100, :4])
    torch.testing.assert_close(merged.scores, boxes[:100, 4])


@pytest.mark.parametrize('part', ['rpn_head', 'roi_head.bbox_head', 'roi_head.mask_head'])
def test_heads_refuse_stateful_neurons(shapes, part):
    """They go over levels and boxes, which are no moments of one stream."""
    cfg = config('mmdet', 'LIF', shapes)
    cfg.merge_from_dict({f'model.{part}.neuron.stateful': True})
    with pytest.raises(ValueError, match='stateful=True for backbone and neck'):
        MODELS.build(cfg.model)


def test_retina_head_refuses_stateful_neurons():
    head = dict(type='mmspike.SpikingRetinaHead', num_classes=4, in_channels=8, neuron=dict(type='LIF', stateful=True))
    with pytest.raises(ValueError, match='no stateful neuron'):
        MODELS.build(head)


def test_stateful_backbone_sees_a_stream(shapes):
    """Frame by frame, the membrane goes on; after a reset it is the first frame again."""
    cfg = config('mmdet', 'LIF', shapes)
    model = build(cfg)
    cfg.model.backbone.neuron.stateful = cfg.model.neck.neuron.stateful = True
    stream = MODELS.build(cfg.model).eval()
    stream.load_state_dict(model.state_dict())
    frame = samples(cfg, 'test_dataloader', 1)
    expected = predict(model, frame)[0]
    assert_same(predict(stream, frame)[0], expected)
    assert not torch.equal(predict(stream, frame)[0].pred_instances.scores, expected.pred_instances.scores)
    reset_spikes(stream)
    assert_same(predict(stream, frame)[0], expected)


@pytest.mark.parametrize('mix', [['Mosaic', 'MixUp'], ['CopyPaste']])
def test_mixed_images_skip_empty_files(shapes, tmp_path, mix):
    """mmdet's transforms that draw further images of the data set get them from our loader, and none that is broken."""
    folder = tmp_path / 'shapes'
    shutil.copytree(shapes, folder)
    (folder / 'train' / '000001.png').write_bytes(b'')
    cfg = config('mmdet', 'SFA', folder)
    dataset = cfg.train_dataloader.dataset
    masks = 'CopyPaste' in mix  # Mosaic and MixUp leave masks behind
    boxes = dict(type='LoadAnnotations', with_bbox=True, with_mask=masks)
    dataset.update(pipeline=[dict(type='mmspike.LoadImageFromFile', on_error='skip'), boxes], max_refetch=100)
    sizes = dict(Mosaic=dict(img_scale=(SIZE, SIZE)), MixUp=dict(img_scale=(SIZE, SIZE)), CopyPaste=dict(max_num_pasted=3))
    mixed = [dict(type=name, **sizes[name]) for name in mix]
    mixed = DATASETS.build(dict(type='MultiImageMixDataset', dataset=dataset, pipeline=[*mixed, dict(type='PackDetInputs')]))
    random.seed(0)
    np.random.seed(0)
    samples = [mixed[i] for i in range(len(mixed))]
    assert len(samples) == 4 and all(len(sample['data_samples'].gt_instances) for sample in samples)
    assert mixed.dataset.pipeline.transforms[0].skipped.total() >= 1
