import pytest
import torch
from mmpretrain.structures import DataSample

from mmspike.models.classification import EventDataPreprocessor


def batch(number=6, T=4):
    return dict(
        inputs=torch.poisson(torch.ones(number, T, 2, 34, 34)),
        data_samples=[DataSample().set_gt_label(i % 3) for i in range(number)],
    )


@pytest.mark.parametrize('as_list', [False, True])
def test_time_comes_first(as_list):
    data = batch()
    given = dict(data, inputs=list(data['inputs'])) if as_list else data
    out = EventDataPreprocessor()(given)
    assert out['inputs'].shape == (4, 6, 2, 34, 34) and out['inputs'].is_contiguous()
    assert torch.equal(out['inputs'].transpose(0, 1), data['inputs'])
    assert [int(s.gt_label) for s in out['data_samples']] == [0, 1, 2, 0, 1, 2]


def test_padding():
    out = EventDataPreprocessor(pad_size_divisor=16)(batch())['inputs']
    assert out.shape == (4, 6, 2, 48, 48) and out[..., 34:, :].sum() == out[..., 34:].sum() == 0


def test_images_are_refused():
    with pytest.raises(ValueError, match=r'expected event frames .*\(2, 3, 34, 34\).*PackEvents'):
        EventDataPreprocessor()(dict(inputs=torch.zeros(2, 3, 34, 34)))


def test_mixup_mixes_all_steps_and_labels_alike():
    data = batch()
    preprocessor = EventDataPreprocessor(num_classes=3, batch_augments=dict(augments=[dict(type='Mixup', alpha=1.0)]))
    frames, samples = preprocessor(data, training=True).values()
    # the mean over the batch is kept, every recording is a sum of two with the weights of its scores
    assert torch.allclose(frames.mean(1), data['inputs'].mean(0), atol=1e-5)
    assert not torch.equal(frames.transpose(0, 1), data['inputs'])
    assert all(torch.isclose(s.gt_score.sum(), torch.tensor(1.0)) for s in samples)
    assert torch.equal(preprocessor(batch())['inputs'].frac(), torch.zeros(4, 6, 2, 34, 34))  # not in evaluation


def test_cutmix_cuts_the_same_box_at_every_step():
    data = batch()
    data['inputs'] = torch.arange(6.0).view(6, 1, 1, 1, 1).expand(6, 4, 2, 34, 34).contiguous()
    augments = dict(augments=[dict(type='CutMix', alpha=1.0)])
    frames = EventDataPreprocessor(num_classes=3, batch_augments=augments)(data, training=True)['inputs']
    assert (frames == frames[:1, :, :1]).all() and any(len(frames[0, i, 0].unique()) == 2 for i in range(6))
