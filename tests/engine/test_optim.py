import pytest
import torch
from mmcv.ops import RoIAlign, nms

from mmspike.engine.optim import run_mmcv_operators_in_float32


@pytest.fixture(autouse=True)
def _patched():
    run_mmcv_operators_in_float32()


def align(x):
    rois = torch.tensor([[0, 1.0, 2.0, 30.0, 25.0], [1, 0.0, 4.0, 16.0, 28.0]])
    return RoIAlign(7, 0.25, 0)(x, rois.to(x.dtype))


def test_roi_align_in_bfloat16():
    x = torch.randn(2, 3, 8, 8).bfloat16().requires_grad_()
    exact = x.detach().float().requires_grad_()
    out, expected = align(x), align(exact)
    assert out.dtype == torch.bfloat16 and expected.dtype == torch.float32
    assert torch.equal(out, expected.bfloat16())
    out.float().sum().backward()
    expected.sum().backward()
    assert x.grad.dtype == torch.bfloat16
    torch.testing.assert_close(x.grad.float(), exact.grad, rtol=1e-2, atol=1e-2)


def test_nms_in_bfloat16():
    boxes = torch.tensor([[0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 30, 30]], dtype=torch.float32)
    scores = torch.tensor([0.5, 0.75, 0.25])
    assert nms(boxes, scores.bfloat16(), 0.5)[1].tolist() == nms(boxes, scores, 0.5)[1].tolist() == [1, 2]


def test_float32_is_left_as_it_is():
    x = torch.randn(2, 3, 8, 8)
    assert align(x).dtype == torch.float32


def test_custom_keys_keep_norms_and_biases_free_of_weight_decay():
    from mmengine.optim import build_optim_wrapper
    from torch import nn

    model = nn.ModuleDict(dict(body=nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), head=nn.Linear(4, 2)))

    def decays(**custom_keys):
        paramwise = dict(norm_decay_mult=0.0, bias_decay_mult=0.1, custom_keys=custom_keys)
        cfg = dict(
            constructor='mmspike.OptimWrapperConstructor',
            optimizer=dict(type='SGD', lr=1.0, weight_decay=2.0),
            paramwise_cfg=paramwise,
        )
        groups = build_optim_wrapper(model, cfg).optimizer.param_groups
        return [(g['lr'], g['weight_decay']) for g in groups]

    # convolution, its bias, norm, its bias, head, its bias
    assert decays(head=dict(lr_mult=3)) == [(1, 2), (1, 0.2), (1, 0), (1, 0), (3, 2), (3, 0.2)]
    assert decays(body=dict(decay_mult=0.5)) == [(1, 1), (1, 1), (1, 1), (1, 1), (1, 2), (1, 0.2)]
