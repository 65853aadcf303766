"""Focal losses (arXiv:1708.02002) in plain PyTorch.

Names, arguments and their order are those of mmcv's compiled functions, which write into their last tensor. ``target`` [N] has
class indices, ``weight`` [C] a weight for each class or no element. float16 and bfloat16 are computed in float32.
"""

import torch
from torch import Tensor

from .sampling import widened

TINY = torch.finfo(torch.float32).tiny  # what mmcv clamps probabilities to before their logarithm


def _class_weight(target: Tensor, weight: Tensor) -> Tensor | float:
    """The weight of each row's class [N, 1]; 1 for a background, which has none."""
    if weight.numel() == 0:
        return 1.0
    known = (target >= 0) & (target < weight.numel())
    return torch.where(known, weight[target.clamp(0, weight.numel() - 1)], weight.new_ones(()))[:, None]


def _log(p: Tensor) -> Tensor:
    return p.clamp(min=TINY).log()


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Loss of each logit [N, C]: a class index of C or more is the background."""
    positive = target[:, None] == torch.arange(input.shape[1], device=input.device)
    p = widened(input).sigmoid()
    loss = torch.where(positive, -alpha * (1 - p) ** gamma * _log(p), (alpha - 1) * p**gamma * _log(1 - p))
    output.copy_(loss * _class_weight(target, widened(weight)))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Derivative of each logit's loss by the logit [N, C]."""
    positive = target[:, None] == torch.arange(input.shape[1], device=input.device)
    p = widened(input).sigmoid()
    q = 1 - p
    by_positive = -alpha * q**gamma * (q - gamma * p * _log(p))
    by_negative = (alpha - 1) * p**gamma * (gamma * q * _log(q) - p)
    grad_input.copy_(torch.where(positive, by_positive, by_negative) * _class_weight(target, widened(weight)))


def _of_target(softmax: Tensor, target: Tensor) -> Tensor:
    return widened(softmax).gather(1, target.clamp(min=0)[:, None]).squeeze(1)


def softmax_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Loss of each row [N] of probabilities [N, C]; rows of a negative class are left out."""
    p = _of_target(input, target)
    loss = -alpha * (1 - p)[:, None] ** gamma * _log(p)[:, None] * _class_weight(target, widened(weight))
    output.copy_(loss.squeeze(1) * (target >= 0))


def softmax_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, buff: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Derivative of each row's loss by its logits [N, C], from the probabilities; ``buff`` [N] is scratch memory."""
    p = _of_target(input, target)
    q = 1 - p
    by_log = alpha * (gamma * q ** (gamma - 1) * p * _log(p) - q**gamma)
    by_log = by_log[:, None] * _class_weight(target, widened(weight)) * (target >= 0)[:, None]
    positive = target[:, None] == torch.arange(input.shape[1], device=input.device)
    grad_input.copy_(by_log * (positive.to(by_log.dtype) - widened(input)))
