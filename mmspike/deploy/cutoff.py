"""Anytime inference: a classifier of T time steps that stops at the first step at which it is sure (arXiv 2301.09522).

Logits are averaged over the steps so far. Inference stops at the first step t at which the best class leads the second one by
more than beta_t, and at T in any case. Each beta_t is chosen on training data.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mmspike.models.backbones.base import SpikingBackbone
from mmspike.models.backbones.extra_stages import ExtraStages
from mmspike.models.inspection import evaluating, is_neuron
from mmspike.models.neurons import BaseNeuron

THRESHOLDS = 100


class StepByStep:
    """Runs a classifier one time step at a time: its neurons keep their membranes in between.

    Args:
        model: An mmpretrain ``ImageClassifier`` with a spiking backbone of T > 1 and a head that keeps its time axis.

    Raises:
        ValueError: T is 1, a neuron cannot run step by step, or there is no spiking backbone.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.backbones = [m for m in model.modules() if isinstance(m, (SpikingBackbone, ExtraStages))]
        if not self.backbones:
            raise ValueError(f'cutoff needs a classifier with a spiking backbone, got {type(model).__name__}')
        self.T = self.backbones[0].T
        if self.T < 2:
            raise ValueError('cutoff stops between time steps and this model has T=1: train it with T > 1')
        foreign = [n for n, m in model.named_modules() if is_neuron(m) and not isinstance(m, BaseNeuron)]
        if foreign:
            raise ValueError(f'cutoff knows the neurons of mmspike only, and cannot run {", ".join(foreign)} step by step')
        self.neurons = [m for m in model.modules() if isinstance(m, BaseNeuron)]

    @contextmanager
    def sample(self) -> Iterator[Callable[[Tensor], Tensor]]:
        """Within, a function runs the next step of a batch: inputs [B, C, H, W] -> that step's logits [B, classes]."""
        stateful = [n.stateful for n in self.neurons]
        with evaluating(self.model):
            for n in self.neurons:
                n.stateful = True
            for b in self.backbones:
                b.T = 1
            try:
                yield lambda x: self.model(x, mode='tensor')
            finally:
                for n, kept in zip(self.neurons, stateful, strict=True):
                    n.reset()
                    n.stateful = kept
                for b in self.backbones:
                    b.T = self.T

    def keep(self, samples: Tensor) -> None:
        """Go on with these samples of the batch only (indices): the others are not computed any more."""
        for n in self.neurons:
            if n.v is not None:
                n.v = n.v[samples]

    def logits(self, inputs: Tensor) -> Tensor:
        """Mean logits after every step, [T, B, classes], of images [B, C, H, W] or frames [T, B, C, H, W]."""
        with self.sample() as step:
            each = torch.stack([step(_input_of(inputs, t)) for t in range(self.T)])
        return each.cumsum(0) / torch.arange(1, self.T + 1, device=each.device).view(-1, 1, 1)

    def check(self, inputs: Tensor) -> None:
        """Compare with all T steps at once.

        Raises:
            ValueError: They differ: something other than neurons couples time steps (attention or position over time).
        """
        expected = self._at_once(inputs)
        gap = (self.logits(inputs)[-1] - expected).abs().max().item()
        if gap > 1e-3 * max(1.0, expected.abs().max().item()):
            raise ValueError(
                f'run step by step, {type(self.model).__name__} differs from all {self.T} steps at once by {gap:.2g}: '
                'something besides its neurons couples time steps, and it cannot stop between them'
            )

    def _at_once(self, inputs: Tensor) -> Tensor:
        with evaluating(self.model):
            return self.model(inputs, mode='tensor')

    def predict(self, inputs: Tensor, betas: Sequence[float]) -> tuple[Tensor, Tensor]:
        """Classes [B] and the steps [B] after which each was decided. Later steps of a decided sample are not computed."""
        if len(betas) != self.T - 1:
            raise ValueError(f'a model of T={self.T} steps needs {self.T - 1} thresholds, got {len(betas)}')
        B = inputs.shape[-4]
        left = torch.arange(B, device=inputs.device)
        classes, steps = torch.empty_like(left), torch.empty_like(left)
        total: Any = 0
        with self.sample() as step:
            for t in range(self.T):
                x = _input_of(inputs, t)
                total = total + step(x[left] if x.dim() == 4 else x[:, left])
                decided = lead(total / (t + 1)) > betas[t] if t < self.T - 1 else torch.ones_like(left, dtype=torch.bool)
                classes[left[decided]] = total[decided].argmax(1)
                steps[left[decided]] = t + 1
                stay = (~decided).nonzero().squeeze(1)
                left, total = left[stay], total[stay]
                if not len(left):
                    break
                self.keep(stay)
        return classes, steps


def _input_of(inputs: Tensor, t: int) -> Tensor:
    return inputs if inputs.dim() == 4 else inputs[t : t + 1]


def lead(logits: Tensor) -> Tensor:
    """By how much the best class leads the second one, [..., classes] -> [...]."""
    best = logits.topk(2, -1).values
    return best[..., 0] - best[..., 1]


def calibrate(logits: Tensor, labels: Tensor, epsilon: float = 0.0) -> list[float]:
    """Thresholds beta_1 … beta_{T-1} from the mean logits after every step.

    beta_t is the smallest of 100 thresholds, evenly spaced from 0 to the largest lead at t, at which those samples that would
    stop at t are right from t to T at a rate of at least 1 - epsilon; infinite, which never stops, if none would be right
    often enough.

    Args:
        logits: [T, N, classes] of training images.
        labels: [N].
        epsilon: Share of the stopped samples that may be wrong at t or later, in [0, 1).
    """
    if not 0 <= epsilon < 1:
        raise ValueError(f'epsilon must be in [0, 1), got {epsilon}')
    right = logits.argmax(-1) == labels
    stays_right = right.flip(0).cumprod(0).flip(0).bool()
    betas = []
    for t in range(len(logits) - 1):
        leads = lead(logits[t])
        beta = math.inf
        for threshold in torch.linspace(0, leads.max().item(), THRESHOLDS).tolist():
            stopped = leads > threshold
            if stopped.any() and stays_right[t][stopped].double().mean() >= 1 - epsilon:
                beta = threshold
                break
        betas.append(beta)
    return betas


@dataclass
class CutoffResult:
    """Accuracy against time steps.

    Attributes:
        fixed: Accuracy of 1, 2, … T steps for every sample.
        betas: Thresholds of the steps 1 to T - 1.
        accuracy: With cutoff.
        steps: Mean steps with cutoff.
        stopped: Share of the samples that stop after 1, 2, … T steps.
        images: Samples that were evaluated.
        seconds: Time of the forward passes: with cutoff, and of all T steps.
    """

    fixed: list[float]
    betas: list[float]
    accuracy: float
    steps: float
    stopped: list[float]
    images: int
    seconds: tuple[float, float]

    def __str__(self) -> str:
        lines = ['steps  accuracy  stop here  threshold']
        for t, accuracy in enumerate(self.fixed):
            beta = f'{self.betas[t]:.4g}' if t < len(self.betas) else '-'
            lines.append(f'{t + 1:>5}  {accuracy:>8.2%}  {self.stopped[t]:>9.1%}  {beta:>9}')
        cut, full = self.seconds
        lines.append(
            f'cutoff: {self.accuracy:.2%} with {self.steps:.2f} of {len(self.fixed)} steps on average over {self.images} '
            f'images, {cut / self.images * 1e3:.1f} ms an image against {full / self.images * 1e3:.1f} ms'
        )
        return '\n'.join(lines)


def evaluate(runner: StepByStep, betas: Sequence[float], batches: Iterable[tuple[Tensor, Tensor]]) -> CutoffResult:
    """Accuracy and steps with cutoff, beside those of 1 to T steps for every sample.

    Args:
        runner: The classifier.
        betas: From :func:`calibrate`.
        batches: Pairs of preprocessed inputs and labels [B].
    """
    right = torch.zeros(runner.T, dtype=torch.long)
    stopped = torch.zeros(runner.T, dtype=torch.long)
    cut_right = images = 0
    seconds = [0.0, 0.0]
    for inputs, labels in batches:
        start = time.perf_counter()
        classes, steps = runner.predict(inputs, betas)
        middle = time.perf_counter()
        logits = runner.logits(inputs)
        end = time.perf_counter()
        seconds[0] += middle - start
        seconds[1] += end - middle
        right += (logits.argmax(-1) == labels).sum(1).cpu()
        stopped += torch.bincount(steps.cpu() - 1, minlength=runner.T)
        cut_right += int((classes == labels).sum())
        images += len(labels)
    if not images:
        raise ValueError('there is no image to evaluate')
    share = stopped.double() / images
    return CutoffResult(
        fixed=(right.double() / images).tolist(),
        betas=list(betas),
        accuracy=cut_right / images,
        steps=float((share * torch.arange(1, runner.T + 1)).sum()),
        stopped=share.tolist(),
        images=images,
        seconds=(seconds[0], seconds[1]),
    )
