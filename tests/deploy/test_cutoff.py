"""Anytime inference: thresholds by hand, steps that are really not computed."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmspike.deploy.cutoff import StepByStep, calibrate, evaluate, lead

from .networks import ARCH, build, whole_model

mmpretrain = pytest.importorskip('mmpretrain')


@pytest.fixture
def classifier(repo):
    _, model = whole_model(repo, 'metaspike_imagenet.py')
    model.backbone.T = 3
    model.head.neuron = dict(type='LIF', tau=2.0, v_threshold=1.0)
    model = build(model)
    nn.init.normal_(model.backbone.stem[0].conv.conv.weight)
    # one position instead of the mean over all, in which images of noise hardly differ
    model.head.pre_logits = lambda feats: model.head.neuron(feats[-1][..., 1, 2])
    return model


def pictures(n):
    """Images of different structure: coarse noise."""
    return F.interpolate(torch.randn(n, 3, 5, 5), size=(64, 64)) * 3 * torch.rand(n, 1, 1, 1) + torch.randn(n, 3, 1, 1)


def test_steps_are_those_of_all_at_once(classifier):
    runner = StepByStep(classifier)
    x = pictures(3)
    runner.check(x)
    logits = runner.logits(x)
    for t in (1, 2, 3):
        classifier.backbone.T = t
        with torch.no_grad():
            torch.testing.assert_close(logits[t - 1], classifier(x, mode='tensor'))
    frames = torch.randn(3, 2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(runner.logits(frames)[-1], classifier(frames, mode='tensor'))
    assert classifier.backbone.T == 3 and not any(n.stateful or n.v is not None for n in runner.neurons)


def test_decided_samples_are_not_computed(classifier):
    runner = StepByStep(classifier)
    x = pictures(4)
    logits = runner.logits(x)
    leads = lead(logits)
    # two samples stop at the first step, one more at the second
    betas = [leads[0].sort().values[1:3].mean().item()]
    first = leads[0] > betas[0]
    betas.append(leads[1][~first].mean().item())
    expected = torch.where(first, 1, torch.where(leads[1] > betas[1], 2, 3))
    batches = []
    handle = classifier.backbone.stages[0][0].register_forward_hook(lambda m, args, out: batches.append(args[0].shape[1]))
    classes, steps = runner.predict(x, betas)
    handle.remove()
    assert torch.equal(steps, expected) and sorted(set(steps.tolist())) == [1, 2, 3]
    assert torch.equal(classes, logits[steps - 1, torch.arange(4)].argmax(1))
    assert batches == [4, 2, 1]


def test_nothing_is_left_to_compute(classifier):
    calls = []
    classifier.backbone.register_forward_hook(lambda m, args, out: calls.append(1))
    runner = StepByStep(classifier)
    _, steps = runner.predict(torch.randn(2, 3, 64, 64), [-1.0, -1.0])
    assert steps.tolist() == [1, 1] and len(calls) == 1


def test_thresholds_by_hand():
    # leads at step 1: 0.99 (right, stays), 0.505 (right, then wrong), 0.105 (wrong)
    logits = torch.tensor([[[0.99, 0.0], [0.505, 0.0], [0.0, 0.105]], [[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]]])
    labels = torch.tensor([0, 0, 0])
    (beta,) = calibrate(logits, labels, epsilon=0.0)
    assert beta == pytest.approx(0.51)  # of 0, 0.01, … 0.99: the first that lets none but the first sample through
    (beta,) = calibrate(logits, labels, epsilon=0.5)
    assert beta == pytest.approx(0.11)
    assert calibrate(logits, 1 - labels, 0.0) == [math.inf]
    with pytest.raises(ValueError, match='epsilon'):
        calibrate(logits, labels, 1.0)


def test_evaluation_adds_up(classifier):
    runner = StepByStep(classifier)
    batches = [(torch.randn(2, 3, 64, 64), torch.tensor([0, 1])), (torch.randn(1, 3, 64, 64), torch.tensor([2]))]
    result = evaluate(runner, [math.inf, math.inf], batches)
    assert result.steps == 3 and result.stopped == [0, 0, 1] and result.images == 3
    assert result.accuracy == result.fixed[-1]
    assert 'cutoff:' in str(result) and json.dumps(result.fixed)


def test_what_cannot_stop_is_refused(repo, classifier):
    classifier.backbone.T = 1
    with pytest.raises(ValueError, match='T=1'):
        StepByStep(classifier)
    with pytest.raises(ValueError, match='spiking backbone'):
        StepByStep(nn.Linear(2, 2))
    classifier.backbone.T = 3
    with pytest.raises(ValueError, match='needs 2 thresholds, got 1'):
        StepByStep(classifier).predict(torch.randn(1, 3, 64, 64), [0.1])

    class Coupled(nn.Module):
        def forward(self, x):
            return x.cumsum(0)

    classifier.backbone.stages[0].append(Coupled())
    with pytest.raises(ValueError, match='couples time steps'):
        StepByStep(classifier).check(pictures(1))


def test_tool(repo, run_tool, shared, tmp_path):
    cfg, model = whole_model(repo, 'espike_cifar10.py')
    backbone = dict(type='mmspike.MetaSpikeFormer', arch=ARCH, T=2, out_indices=(3,), temporal_output='keep')
    backbone['strides'] = (1, 2, 2, 1, 1)
    model.backbone = backbone
    model.head.num_classes = 10
    model.head.neuron = dict(type='LIF', tau=2.0)
    del cfg.model.data_preprocessor
    cfg.dump(tmp_path / 'config.py')
    checkpoint = tmp_path / 'model.pth'
    torch.save(dict(state_dict=build(model).state_dict()), checkpoint)
    out = tmp_path / 'new' / 'out.json'
    args = ['--data-root', shared / 'data' / 'cifar10', '--train-images', 20, '--num-images', 20, '--device', 'cpu']
    done = run_tool('analysis_tools/cutoff.py', tmp_path / 'config.py', checkpoint, *args, '--json', out)
    assert done.returncode == 0, done.stderr
    assert 'thresholds from 20 training images' in done.stdout and 'of 2 steps on average over 20 images' in done.stdout
    result = json.loads(out.read_text())
    assert len(result['fixed']) == 2 and 1 <= result['steps'] <= 2
    done = run_tool('analysis_tools/cutoff.py', repo / 'configs' / 'fpn_espike_nuclei.py', checkpoint)
    assert done.returncode and 'no config of a classifier' in done.stderr
