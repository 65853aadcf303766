import pytest
import torch
from mmpretrain.registry import MODELS
from mmpretrain.structures import DataSample

STUDENT = dict(
    type='mmspike.DistilledImageClassifier',
    backbone=dict(type='mmspike.ESpikeFormer', arch=dict(dims=(16, 16, 32, 48)), out_indices=(3,), temporal_output='keep'),
    head=dict(
        type='mmspike.SpikingLinearClsHead', num_classes=5, in_channels=48, neuron=dict(type='SFA', divisor=1), distilled=True
    ),
)


def teacher():
    return dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=512),
    )


def samples():
    return [DataSample().set_gt_label(i) for i in range(3)]


def test_learns_what_the_teacher_sees():
    model = MODELS.build(STUDENT | dict(teacher=teacher()))
    model.train()
    assert not any('teacher' in k for k in [*model.state_dict(), *dict(model.named_parameters())])
    seen = model._teacher[0]
    assert not seen.training
    x = torch.randn(3, 3, 32, 32)
    losses = model(x, samples(), mode='loss')
    sum(losses.values()).backward()
    assert all(p.grad is None for p in seen.parameters())
    labels = seen(x).argmax(1)
    logits, logits_kd = model.head(model.extract_feat(x))
    torch.testing.assert_close(losses['loss_kd'], 0.5 * torch.nn.functional.cross_entropy(logits_kd, labels))
    assert torch.equal(losses['loss'], 0.5 * torch.nn.functional.cross_entropy(logits, torch.arange(3)))


def test_teacher_follows_the_student():
    model = MODELS.build(STUDENT | dict(teacher=teacher())).double()
    assert next(model._teacher[0].parameters()).dtype == torch.float64


def test_timm_teacher():
    pytest.importorskip('timm')
    model = MODELS.build(STUDENT | dict(teacher=dict(type='TimmClassifier', model_name='resnet10t', num_classes=5)))
    assert model(torch.randn(3, 3, 32, 32), samples(), mode='loss')['loss_kd'] > 0


def test_head_without_distillation_output():
    head = STUDENT['head'] | dict(distilled=False)
    with pytest.raises(ValueError, match='set distilled=True'):
        MODELS.build(STUDENT | dict(head=head, teacher=teacher()))
