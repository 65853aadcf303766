"""Whole classifiers, segmentors and detectors as ONNX files: predictions are those of the network."""

import ast
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope

from mmspike.deploy import compare, fuse, int8, runner
from mmspike.deploy.engine_check import check_engine
from mmspike.deploy.int8_graph import quantize
from mmspike.deploy.onnx_export import export_whole
from mmspike.deploy.whole import split
from mmspike.utils.errors import UserError

from .networks import build, sample, sfa

onnx_ir = pytest.importorskip('onnx_ir')
pytest.importorskip('onnxscript')
pytest.importorskip('onnxruntime')

BACKBONE = dict(
    type='mmspike.SpikingVGG',
    arch=dict(dims=(4, 6, 8), depths=(2, 1, 1)),
    T=1,
    neuron=sfa(4),
    out_indices=(1, 2),
    temporal_output='keep',
)
NECK = dict(type='mmspike.SpikingFPN', in_channels=[6, 8], out_channels=8, num_outs=2, neuron=sfa(4, 1))
ANCHORS = dict(type='AnchorGenerator', scales=[4], ratios=[0.5, 1.0], strides=[2, 4])
CODER = dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=[0.5] * 4)
NMS = dict(type='nms', iou_threshold=1.0)  # all boxes: of those with one score another may come first
KEYS = ('labels', 'scores', 'bboxes')
STATISTICS = dict(mean=[120.0] * 3, std=[60.0] * 3)
DETECTION = dict(type='DetDataPreprocessor', bgr_to_rgb=True, pad_size_divisor=32, **STATISTICS)


def retinanet():
    head = dict(
        type='mmspike.SpikingRetinaHead',
        neuron=sfa(4, 1),
        num_classes=3,
        in_channels=8,
        feat_channels=8,
        stacked_convs=1,
        anchor_generator=ANCHORS,
        bbox_coder=CODER,
        loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        loss_bbox=dict(type='L1Loss'),
    )
    test_cfg = dict(nms_pre=9999, min_bbox_size=0, score_thr=0.005, nms=NMS, max_per_img=9999)
    return dict(type='RetinaNet', data_preprocessor=DETECTION, backbone=BACKBONE, neck=NECK, bbox_head=head, test_cfg=test_cfg)


def yolo():
    head = dict(
        type='mmspike.SpikingYOLOHead',
        num_classes=3,
        in_channels=[8, 8],
        strides=[2, 4],
        bins=4,
        objects=4000,
        box_channels=8,
        cls_channels=8,
    )
    return retinanet() | dict(type='SingleStageDetector', bbox_head=head)


def mask_rcnn():
    def extractor(size):
        return dict(
            type='mmspike.SpikingRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=size, sampling_ratio=0),
            out_channels=8,
            featmap_strides=[2, 4],
            finest_scale=8,
        )

    roi = dict(
        type='mmspike.SpikingStandardRoIHead',
        bbox_roi_extractor=extractor(3),
        bbox_head=dict(
            type='mmspike.SpikingShared2FCBBoxHead',
            neuron=sfa(4, 1),
            in_channels=8,
            fc_out_channels=8,
            roi_feat_size=3,
            num_classes=3,
            bbox_coder=CODER,
        ),
        mask_roi_extractor=extractor(6),
        mask_head=dict(
            type='mmspike.SpikingFCNMaskHead', neuron=sfa(4, 1), in_channels=8, conv_out_channels=8, num_convs=1, num_classes=3
        ),
    )
    rpn = dict(
        type='mmspike.SpikingRPNHead',
        neuron=sfa(4, 1),
        in_channels=8,
        feat_channels=8,
        anchor_generator=ANCHORS,
        bbox_coder=CODER,
        loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=True),
    )
    test_cfg = dict(
        rpn=dict(nms_pre=9999, max_per_img=9999, nms=NMS, min_bbox_size=0),
        rcnn=dict(score_thr=0.2, nms=NMS, max_per_img=9999, mask_thr_binary=0.5),
    )
    model = dict(type='MaskRCNN', train_cfg=None, data_preprocessor=DETECTION, backbone=BACKBONE, neck=NECK)
    return model | dict(rpn_head=rpn, roi_head=roi, test_cfg=test_cfg)


def segmentor():
    head = dict(
        type='mmspike.SpikingFPNHead',
        neuron=sfa(4, 1),
        feature_strides=[2, 4],
        in_index=[0, 1],
        in_channels=[8, 8],
        channels=8,
        num_classes=3,
    )
    test_cfg = dict(mode='slide', crop_size=(32, 32), stride=(20, 20))
    preprocessor = dict(type='SegDataPreProcessor', size=(32, 32), **STATISTICS)
    return dict(
        type='EncoderDecoder', data_preprocessor=preprocessor, backbone=BACKBONE, neck=NECK, decode_head=head, test_cfg=test_cfg
    )


def network(host, model):
    pytest.importorskip(host)
    init_default_scope(host)
    torch.manual_seed(0)
    return fuse(build(ConfigDict(deepcopy(model))))


def exported(model, path, engine='onnxruntime'):
    return MODELS.build(dict(type='mmspike.Exported', file=str(path), engine=engine, data_preprocessor=model.data_preprocessor))


def assert_same_instances(found, expected):
    """In any order, but for those around a spike that rounding flips."""
    rows = [
        torch.cat([torch.as_tensor(i[k]).float().reshape(len(i['scores']), -1) for k in KEYS], 1) for i in (found, expected)
    ]
    assert len(rows[0]) == len(rows[1]) > 2
    distance, match = torch.cdist(*rows, p=float('inf')).min(1)
    assert (distance < 1e-3).float().mean() > 0.95
    if 'masks' in expected:
        assert (torch.as_tensor(found['masks']) != expected['masks'][match]).float().mean() < 1e-2


def assert_same_predictions(net, model, path, sizes, scope):
    file = exported(ConfigDict(model), path)
    for size in sizes:
        batch = sample(scope, size)
        if scope == 'mmdet':  # the image was twice as large
            batch['data_samples'][0].set_metainfo(dict(scale_factor=(0.5, 0.5), ori_shape=(2 * size[0], 2 * size[1])))
            assert_same_instances(*(m.test_step(deepcopy(batch))[0].pred_instances for m in (file, net)))
        else:
            found = compare(net, file, batch)
            assert found.largest < 1e-3 and found.total and found.flipped <= found.total / 1e4, f'{size}: {found}'


def in_integers(net, files, path, size, monkeypatch):
    """Integer files of what has been exported, checked, and the network with their weights."""
    monkeypatch.setattr(int8, 'export_whole', lambda *args: files)
    image = torch.randn(1, 3, *size).numpy()
    written = int8.export_int8(net, path, 'onnxruntime', size, image=image)
    assert [file.path.name for file in written] == [file.path.name for file in files]
    net = deepcopy(net)
    parameters = dict(net.named_parameters())
    for file, after, part in zip(files, written, ('', 'roi_head.bbox_head.', 'roi_head.mask_head.'), strict=False):
        assert after.check.same and after.check.spikes.total.spikes > 0 and after.bytes[1] < after.bytes[0], str(after)
        for name, values in quantize(onnx_ir.load(file.path), 'onnxruntime').items():
            parameters[part + name.removeprefix('network.')].data = torch.from_numpy(values)
    return net


def test_one_stage_detector_of_any_size(tmp_path, monkeypatch):
    net = network('mmdet', retinanet())
    (file,) = export_whole(net, tmp_path / 'r.onnx', None)
    assert file.gap < 1e-4
    image = net.data_preprocessor(sample('mmdet', (32, 64)))['inputs'].numpy()
    check = check_engine(file.path, file.module, image, 'onnxruntime')
    assert check.same and check.spikes.total.spikes > 0
    assert_same_predictions(net, retinanet(), tmp_path / 'r.onnx', [(50, 40)], 'mmdet')
    rounded = in_integers(net, [file], tmp_path / 'int8' / 'r.onnx', (32, 64), monkeypatch)
    assert_same_predictions(rounded, retinanet(), tmp_path / 'int8' / 'r.onnx', [(50, 40)], 'mmdet')
    with pytest.raises(ValueError, match='image of 40 x 64, the file takes multiples of 32'):
        runner.Runner(tmp_path / 'r.onnx').predict(np.zeros((1, 3, 40, 64), np.float32), [{}])


def test_detector_of_points(tmp_path):
    net = network('mmdet', yolo())
    (file,) = export_whole(net, tmp_path / 'y.onnx', (32, 64))
    assert file.gap < 1e-4
    assert_same_predictions(net, yolo(), tmp_path / 'y.onnx', [(20, 50)], 'mmdet')


@pytest.fixture(scope='module')
def two_stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp('two_stage')
    net = network('mmdet', mask_rcnn())
    net.dataset_meta = dict(classes=('bolt', 'ring', 'nut'))
    return net, export_whole(net, folder / 'm.onnx', (32, 64))


def test_two_stage_detector(two_stage):
    net, files = two_stage
    assert [file.path.name for file in files] == ['m.onnx', 'm_box.onnx', 'm_mask.onnx']
    assert max(file.gap for file in files) < 1e-4
    assert_same_predictions(net, mask_rcnn(), files[0].path, [(32, 64), (20, 50)], 'mmdet')


def test_two_stage_detector_in_integers(two_stage, tmp_path, monkeypatch):
    init_default_scope('mmdet')
    rounded = in_integers(*two_stage, tmp_path / 'm.onnx', (32, 64), monkeypatch)
    assert_same_predictions(rounded, mask_rcnn(), tmp_path / 'm.onnx', [(20, 50)], 'mmdet')


def test_runner_alone(two_stage, tmp_path, monkeypatch):
    """A copy of the file, with neither torch nor mmspike at hand."""
    net, files = two_stage
    tree = ast.parse(Path(runner.__file__).read_text(encoding='utf-8'))
    imports = [
        n.module if isinstance(n, ast.ImportFrom) else n.names[0].name for n in ast.walk(tree) if 'Import' in type(n).__name__
    ]
    assert {name.split('.')[0] for name in imports} - {'onnxruntime', 'numpy'} <= sys.stdlib_module_names
    predict = runner.Runner(files[0].path)
    assert predict.about['classes'] == ['bolt', 'ring', 'nut'] and predict.about['size'] == [32, 64]
    batch = sample('mmdet', (20, 50))
    expected = net.test_step(deepcopy(batch))[0].pred_instances
    result = predict(batch['inputs'][0].permute(1, 2, 0).numpy())
    assert_same_instances(result, expected)
    with pytest.raises(ValueError, match=r'behind the preprocessor, 64 x 64 pixels .* takes 32 x 64: .*--shape 64 64'):
        predict(np.zeros((40, 64, 3), np.uint8))
    with pytest.raises(ValueError, match='has 1 channels, the file takes 3'):
        predict(np.zeros((32, 64), np.uint8))
    # no box at all
    empty = dict(shape=(32, 64), original=(32, 64), scale=(1.0, 1.0))
    none = predict._regions([np.zeros((1, 8, 16, 32), np.float32)], np.zeros((0, 4), np.float32), empty)
    assert none['masks'].shape == (0, 32, 64) and not len(none['scores'])


def test_segmentor_with_windows(tmp_path, monkeypatch):
    net = network('mmseg', segmentor())
    files = export_whole(net, tmp_path / 's.onnx', (99, 99))
    rounded = in_integers(net, files, tmp_path / 'int8' / 's.onnx', (32, 32), monkeypatch)
    assert_same_predictions(rounded, segmentor(), tmp_path / 'int8' / 's.onnx', [(50, 70)], 'mmseg')
    assert_same_predictions(net, segmentor(), tmp_path / 's.onnx', [(32, 32), (50, 70)], 'mmseg')
    with pytest.raises(UserError, match='windows of the image have 30 x 32 pixels .* takes 32 x 32'):
        exported(ConfigDict(segmentor()), tmp_path / 's.onnx').test_step(sample('mmseg', (30, 40)))


def test_mask_transformer(tmp_path):
    pytest.importorskip('mmdet')
    small = dict(channels=8, num_queries=4, encoder_layers=1, groups=2, decoder_layers=1, num_heads=2, layer_scale=0.5)
    small |= dict(dense=True, places=True)
    head = dict(type='mmspike.SpikingMaskFormerHead', in_channels=[6, 8], feature_strides=[2, 4], num_classes=3, network=small)
    model = {k: v for k, v in segmentor().items() if k != 'neck'} | dict(decode_head=head)
    net = network('mmseg', model)
    (file,) = export_whole(net, tmp_path / 'm.onnx', (99, 99))
    assert file.gap < 1e-3
    assert_same_predictions(net, model, file.path, [(40, 32)], 'mmseg')
    with pytest.raises(ValueError, match='product adds up mask features, which are floats'):
        int8.export_int8(net, tmp_path / 'i.onnx', 'onnxruntime', (32, 32))


def test_models_that_predict_otherwise_are_named():
    pytest.importorskip('mmdet')
    init_default_scope('mmdet')

    def refusal(model, **changes):
        cfg = ConfigDict(deepcopy(model) | changes)
        with pytest.raises(ValueError) as error:
            split(MODELS.build(cfg), (32, 32))
        return str(error.value)

    soft = retinanet()['test_cfg'] | dict(nms=dict(type='soft_nms', iou_threshold=0.5))
    assert "nms={'type': 'soft_nms'" in refusal(retinanet(), test_cfg=soft)
    fcos = dict(type='FCOSHead', num_classes=3, in_channels=8, strides=[2, 4], regress_ranges=((-1, 16), (16, 1e8)))
    assert 'bbox_head (FCOSHead) predicts otherwise than AnchorHead' in refusal(retinanet(), bbox_head=fcos)
    classes = dict(num_things_classes=2, num_stuff_classes=1)
    small = dict(channels=8, num_queries=4, encoder_layers=1, groups=2, decoder_layers=1, num_heads=2)
    panoptic = dict(
        type='MaskFormer',
        data_preprocessor=DETECTION,
        backbone=BACKBONE,
        panoptic_head=classes
        | dict(type='mmspike.SpikingPanopticHead', in_channels=[6, 8], feature_strides=[2, 4], network=small),
        panoptic_fusion_head=dict(type='MaskFormerFusionHead', **classes),
        test_cfg=dict(panoptic_on=True),
    )
    assert 'model (MaskFormer) predicts otherwise than SingleStageDetector (predict)' in refusal(panoptic)


def test_files_without_a_description_are_named(tmp_path):
    import onnx

    pytest.importorskip('mmdet')
    init_default_scope('mmdet')
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], 'g', [], [])), tmp_path / 'g.onnx')
    (tmp_path / 'text.onnx').write_bytes(b'\xff' * 40)
    for name, reason in (('g', 'does not describe a whole network: write it with'), ('text', 'is no ONNX file')):
        with pytest.raises(UserError, match=f'{name}.onnx {reason}'):
            exported(ConfigDict(retinanet()), tmp_path / f'{name}.onnx')
    with pytest.raises(UserError, match='none.onnx: there is no such file'):
        exported(ConfigDict(retinanet()), tmp_path / 'none.onnx')


def test_numbers_around_the_graph():
    """Resizing, RoIAlign, non-maximum suppression and pasting against torch, torchvision and mmdet."""
    torchvision = pytest.importorskip('torchvision')
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(3, 7, 9, generator=generator)
    for corners in (True, False):
        for size in ((14, 5), (7, 9), (3, 20)):
            wanted = torch.nn.functional.interpolate(x[None], size, mode='bilinear', align_corners=corners)[0]
            np.testing.assert_allclose(runner.resize(x.numpy(), size, corners), wanted.numpy(), atol=1e-5)
    boxes = torch.rand(40, 4, generator=generator) * 30 - 5
    boxes[:, 2:] += boxes[:, :2] + 1
    for aligned in (True, False):
        for samples in (0, 2):
            rois = torch.cat([torch.zeros(40, 1), boxes], 1)
            wanted = torchvision.ops.roi_align(x[None], rois, (3, 4), 0.5, samples, aligned)
            found = runner.roi_align(x[None].numpy(), boxes.numpy(), 0.5, (3, 4), samples, aligned)[0]
            np.testing.assert_allclose(found, wanted.numpy(), atol=1e-5)
    scores, groups = torch.rand(40, generator=generator), torch.randint(0, 2, (40,), generator=generator)
    wanted = torchvision.ops.batched_nms(boxes, scores, groups, 0.3)
    np.testing.assert_array_equal(runner.nms(boxes.numpy(), scores.numpy(), groups.numpy(), 0.3), wanted.numpy())
