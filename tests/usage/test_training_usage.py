"""Checkpointing, mixed precision, gradient accumulation and weight averages on models that are spiking from end to end."""

from copy import deepcopy

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

pytest.importorskip('mmdet')
pytest.importorskip('mmseg')
pytest.importorskip('mmpretrain')

from mmspike.config import launch  # noqa: E402
from mmspike.models.neurons.base import BaseNeuron  # noqa: E402

from .tiny import NEURONS, assert_same, build, config, pick, predict, samples  # noqa: E402

CASES = [(host, neuron) for host in ('mmdet', 'mmseg', 'mmpretrain') for neuron in NEURONS]
cases = pytest.mark.parametrize(('host', 'neuron'), CASES)


def total_loss(model, batch):
    """Sum of the losses of a batch; the same for the same model, although mmdet draws boxes at random."""
    torch.manual_seed(1)
    losses = model(**model.data_preprocessor(deepcopy(batch), True), mode='loss')
    return model.parse_losses(losses)[0]


def take_all_boxes(cfg):
    """mmdet draws none at random."""
    cfg.model.train_cfg.rpn.sampler.num = cfg.model.train_cfg.rcnn.sampler.num = 100000


def gradients(model):
    return {key: p.grad for key, p in model.named_parameters()}


@cases
def test_with_cp_has_the_same_loss_and_gradients(shapes, host, neuron):
    cfg = config(host, neuron, shapes)
    plain = build(cfg).train()
    lean = deepcopy(plain)
    lean.backbone.with_cp = True
    batch = samples(cfg, 'train_dataloader', 2)
    losses = []
    for model, times in ((plain, 1), (lean, 2)):  # the backward pass computes it again
        calls = []
        last = [m for m in model.backbone.modules() if isinstance(m, BaseNeuron)][-1]
        last.register_forward_pre_hook(lambda module, args, calls=calls: calls.append(module))
        losses.append(total_loss(model, batch))
        losses[-1].backward()
        assert len(calls) == times
    assert torch.equal(*losses)
    for (key, one), two in zip(gradients(plain).items(), gradients(lean).values(), strict=True):
        torch.testing.assert_close(one, two, msg=key)
    assert sum(g.abs().sum() for g in gradients(lean).values()) > 0
    for (key, one), two in zip(plain.named_buffers(), lean.buffers(), strict=True):
        torch.testing.assert_close(one, two, msg=key)


@cases
def test_mixed_precision(shapes, host, neuron):
    """bfloat16 on the CPU, together with checkpointing: close to float32, and it learns."""
    cfg = config(host, neuron, shapes)
    if host == 'mmdet':
        take_all_boxes(cfg)
    model = build(cfg).train()
    model.backbone.with_cp = True
    batch = samples(cfg, 'train_dataloader', 4)
    exact = total_loss(deepcopy(model), batch).item()
    wrapper = build_optim_wrapper(model, dict(type='CPUAmpOptimWrapper', optimizer=dict(type='AdamW', lr=5e-3)))
    dtypes = set()
    for m in model.modules():
        if isinstance(m, BaseNeuron):
            m.register_forward_hook(lambda module, args, out: dtypes.add(out.dtype))
    losses = []
    for _ in range(10 if host == 'mmpretrain' else 5):
        with wrapper.optim_context(model):
            loss = total_loss(model, batch)
        wrapper.update_params(loss)
        losses.append(loss.item())
    assert torch.bfloat16 in dtypes
    assert losses[0] == pytest.approx(exact, rel=0.05) and losses[0] != exact
    assert losses[-1] < 0.99 * losses[0]
    assert all(p.isfinite().all() for p in model.parameters())
    for result in predict(model.eval(), samples(cfg, 'val_dataloader', 1)):
        scores = result.pred_instances.scores if host == 'mmdet' else result.get('pred_score', result.get('seg_logits'))
        assert getattr(scores, 'data', scores).isfinite().all()


@cases
def test_accumulated_gradients_are_those_of_the_large_batch(shapes, host, neuron):
    cfg = config(host, neuron, shapes)
    if host == 'mmdet':
        take_all_boxes(cfg)
    model = build(cfg)  # norms in evaluation mode: their statistics are those of a batch
    batch = samples(cfg, 'train_dataloader', 4)
    # mmdet divides by the number of boxes: halves of the same images have the same number
    halves = [[0, 1], [1, 0]] if host == 'mmdet' else [[0, 1], [2, 3]]

    def gradient_of_a_step(batches, accumulative_counts):
        trained, steps = deepcopy(model), []
        cfg = dict(accumulative_counts=accumulative_counts, optimizer=dict(type='SGD', lr=0.01))
        wrapper = build_optim_wrapper(trained, cfg)
        wrapper.optimizer.register_step_pre_hook(lambda *args: steps.append(deepcopy(gradients(trained))))
        for i in batches:
            assert not steps
            wrapper.update_params(total_loss(trained, pick(batch, i)))
        (gradient,) = steps
        return gradient

    accumulated, large = gradient_of_a_step(halves, 2), gradient_of_a_step([halves[0] + halves[1]], 1)
    for key, gradient in large.items():
        # as vectors: sums of another order round otherwise
        assert (accumulated[key] - gradient).norm() <= 1e-3 * gradient.norm(), key
    assert large['backbone.stem.0.conv.conv.weight'].norm() > 0


class Weights(Hook):
    """Keeps the parameters after each step, and what the model predicts in validation."""

    priority = 'VERY_LOW'

    def __init__(self):
        self.steps, self.predictions = [], []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.steps.append({key: p.detach().clone() for key, p in runner.model.named_parameters()})

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.predictions.extend(outputs)


@cases
def test_ema_validates_the_averaged_model(shapes, tmp_path, host, neuron):
    cfg = config(host, neuron, shapes)
    cfg.work_dir, cfg.launcher = str(tmp_path), 'none'
    cfg.train_cfg = dict(type='IterBasedTrainLoop', max_iters=3, val_interval=3)
    cfg.val_evaluator = []
    cfg.param_scheduler = []
    cfg.update(test_dataloader=None, test_cfg=None, test_evaluator=None)
    cfg.custom_hooks.append(dict(type='EMAHook', momentum=0.3))
    if host == 'mmpretrain':
        launch.complete_mmpretrain_loaders(cfg)
    runner = launch.build_runner(cfg)
    weights = Weights()
    runner.register_hook(weights)
    runner.train()

    first, second, third = weights.steps
    averaged = {key: 0.7 * (0.7 * first[key] + 0.3 * second[key]) + 0.3 * third[key] for key in first}
    ema = next(hook for hook in runner.hooks if isinstance(hook, EMAHook)).ema_model.module
    for key, p in ema.named_parameters():
        torch.testing.assert_close(p, averaged[key], msg=key)
    # validation is over, and the model has its own weights again
    assert all(torch.equal(p, third[key]) for key, p in runner.model.named_parameters())

    model = MODELS.build(cfg.model | dict(data_preprocessor=cfg.get('data_preprocessor') or cfg.model.data_preprocessor))
    model.load_state_dict(runner.model.state_dict())
    plain = predict(model.eval(), samples(cfg, 'val_dataloader', 1))[0]
    for key, p in model.named_parameters():
        p.data.copy_(ema.get_parameter(key))
    result = predict(model, samples(cfg, 'val_dataloader', 1))[0]
    assert_same(weights.predictions[0], result)
    with pytest.raises(AssertionError):
        assert_same(plain, result)
