"""Sequences of windows in a detector: batches, labels that are missing, membranes of places."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.structures import InstanceData

from mmspike.models.detection import EventDetDataPreprocessor
from mmspike.models.inspection import reset_spikes, stateful_modules
from mmspike.utils.errors import UserError


def detector(stateful=False):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    neuron = dict(type='LIF', v_threshold=0.1, stateful=stateful)
    vgg = dict(arch=dict(dims=(4, 8, 8), depths=(2, 1, 1)), T=2, in_channels=2, out_indices=(1, 2), temporal_output='keep')
    # heads go over the levels of a pyramid, and keep nothing
    head = dict(num_classes=2, in_channels=8, feat_channels=4, stacked_convs=1, neuron=dict(type='LIF', v_threshold=0.02))
    model = dict(
        type='mmspike.EventDetector',
        data_preprocessor=dict(type='mmspike.EventDetDataPreprocessor'),
        backbone=dict(type='mmspike.SpikingVGG', neuron=neuron, **vgg),
        neck=dict(type='mmspike.SpikingFPN', in_channels=[8, 8], out_channels=8, num_outs=2, neuron=neuron),
        bbox_head=dict(
            type='mmspike.SpikingRetinaHead',
            anchor_generator=dict(
                type='AnchorGenerator', octave_base_scale=4, scales_per_octave=1, ratios=[1.0], strides=[4, 8]
            ),
            **head,
        ),
        train_cfg=dict(
            assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1,
        ),
        test_cfg=dict(nms_pre=100, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.5), max_per_img=10),
    )
    return MODELS.build(Config(dict(model=model)).model)


def batch(labelled=(True, True), seed=1):
    generator = torch.Generator().manual_seed(seed)
    samples = []
    for known in labelled:
        boxes = torch.tensor([[4.0, 4, 20, 20]]) if known else torch.zeros(0, 4)
        instances = InstanceData(bboxes=boxes, labels=torch.zeros(len(boxes), dtype=torch.long))
        meta = dict(img_shape=(40, 48), ori_shape=(40, 48), scale_factor=(1.0, 1.0), labelled=known)
        samples.append(DetDataSample(metainfo=meta, gt_instances=instances))
    return dict(inputs=[torch.rand(2, 2, 40, 48, generator=generator) * 8 for _ in labelled], data_samples=samples)


def test_a_batch_is_padded_and_time_comes_first():
    data = batch()
    out = EventDetDataPreprocessor(pad_size_divisor=32)(data)
    assert out['inputs'].shape == (2, 2, 2, 64, 64) and out['inputs'].dtype == torch.float32
    assert torch.equal(out['inputs'][1, 0, :, :40, :48], data['inputs'][0][1])
    assert out['inputs'][..., 40:, :].abs().sum() == 0 and out['data_samples'][0].batch_input_shape == (64, 64)
    with pytest.raises(ValueError, match='expected frames .* end the pipeline with a Pack'):
        EventDetDataPreprocessor()(dict(data, inputs=[torch.zeros(4, 40, 48)] * 2))


def losses(model, data):
    data = model.data_preprocessor(data, True)
    return model(**data, mode='loss')


def test_only_labelled_samples_are_learned():
    model = detector().eval()
    total = {k: sum(torch.stack(v)).item() for k, v in losses(model, batch((True, False))).items()}
    alone = batch()
    alone = {key: value[:1] for key, value in alone.items()}
    expected = {k: sum(torch.stack(v)).item() for k, v in losses(model, alone).items()}
    assert total == pytest.approx(expected) and total['loss_cls'] > 0
    none = losses(model, batch((False, False)))
    assert none['loss_cls'].item() == 0
    none['loss_cls'].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_places_of_a_batch_are_reset_alone():
    model = detector(stateful=True).eval()

    def run(data):
        with torch.no_grad():
            return model.bbox_head(model.extract_feat(model.data_preprocessor(data)['inputs']))[0][0]

    first, second = batch(), batch(seed=2)
    reset_spikes(model)
    rested = run(second)
    reset_spikes(model)
    run(first)
    kept = run(second)
    reset_spikes(model)
    run(first)
    reset_spikes(model, torch.tensor([True, False]))
    mixed = run(second)
    assert torch.equal(mixed[0], rested[0]) and torch.equal(mixed[1], kept[1])
    assert not torch.equal(rested[0], kept[0]) and not torch.equal(rested[1], kept[1])
    assert len(list(stateful_modules(model))) > 5


def test_states_without_places_are_refused():
    from spikingjelly.activation_based.neuron import LIFNode

    with pytest.raises(UserError, match='LIFNode cannot be reset for some samples'):
        reset_spikes(LIFNode(step_mode='m'), torch.tensor([True, False]))
