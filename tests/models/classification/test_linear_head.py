import pytest
import torch
from mmpretrain.structures import DataSample


def classifier(distilled=False):
    import mmpretrain.models  # noqa: F401  (registers ImageClassifier)
    from mmpretrain.registry import MODELS

    return MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(
                type='mmspike.MetaSpikeFormer',
                arch=dict(dims=(16, 16, 32, 48)),
                T=2,
                out_indices=(3,),
                temporal_output='keep',
            ),
            head=dict(type='mmspike.SpikingLinearClsHead', num_classes=5, in_channels=48, distilled=distilled),
        )
    )


@pytest.mark.parametrize('distilled', [False, True])
def test_classifier_trains_and_predicts(distilled):
    model = classifier(distilled)
    model.init_weights()
    assert 0.015 < model.head.fc.weight.std() < 0.025
    assert not model.head.fc.bias.any()
    x = torch.randn(3, 3, 32, 32)
    samples = [DataSample().set_gt_label(i) for i in range(3)]
    losses = model(x, samples, mode='loss')
    assert set(losses) == ({'loss', 'loss_kd'} if distilled else {'loss'})
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    predicted = model(x, samples, mode='predict')
    assert predicted[0].pred_score.sum().item() == pytest.approx(1, abs=1e-5)


def test_distilled_head_averages_in_evaluation():
    model = classifier(True)
    feats = model.backbone.eval()(torch.randn(2, 3, 32, 32) * 4)
    a, b = model.head.train()(feats)
    assert not torch.equal(a, b)
    torch.testing.assert_close(model.head.eval()(feats), (a + b) / 2)


def test_weights_of_few_bits():
    from mmspike.models.classification import SpikingLinearClsHead
    from mmspike.models.layers import set_weight_bits, weight_bits

    head = SpikingLinearClsHead(5, 8, weight_bits=8)
    head.init_weights()
    assert weight_bits(head.fc) == 8 and 0.015 < head.fc.weight.std() < 0.025
    plain = SpikingLinearClsHead(5, 8)
    head.load_state_dict(plain.state_dict(), strict=True)  # steps are yet to begin
    logits = head((torch.randn(1, 2, 8, 2, 2) * 3,))
    assert logits.shape == (2, 5) and head.fc.weight_step.all()
    assert weight_bits(SpikingLinearClsHead(5, 8, binary=True).fc) == 1
    with pytest.raises(ValueError, match='distilled=True merges two layers for inference, which leaves weights of more bits'):
        SpikingLinearClsHead(5, 8, distilled=True, weight_bits=8)
    with pytest.raises(ValueError, match=r'SpikingLinearClsHead \(SpikingLinearClsHead\) merges layers into one'):
        set_weight_bits(SpikingLinearClsHead(5, 8, distilled=True), 8)


def test_classifier_reads_spikes():
    model = classifier()
    read = []
    model.head.fc.register_forward_pre_hook(lambda m, args: read.append(args[0]))
    feats = (torch.randn(2, 3, 48, 2, 2) * 3,)
    model.head(feats)
    assert set(read[0].unique().tolist()) == {0.0, 1.0}


def test_averaged_features_are_refused():
    with pytest.raises(ValueError, match='temporal_output="keep"'):
        classifier().head((torch.randn(3, 48, 2, 2),))


def test_loss_of_a_distilled_head_in_evaluation():
    head = classifier(True).head.eval()
    feats = (torch.randn(2, 3, 48, 2, 2) * 3,)
    samples = [DataSample().set_gt_label(i) for i in range(3)]
    assert set(head.loss(feats, samples)) == {'loss', 'loss_kd'}
