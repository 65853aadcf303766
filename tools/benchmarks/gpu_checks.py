"""Checks of gpu.py: kernels and rows of modules on the device against plain PyTorch there."""

from __future__ import annotations

import copy
import itertools
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from mmspike import kernels
from mmspike.models.backbones import ESpikeFormer
from mmspike.models.layers import Chain, ConvNorm, RepConvNorm, Residual, SpikeAttention, SpikingConv
from mmspike.models.neurons import build_neuron

if TYPE_CHECKING:
    from gpu_parts import Part

HALVES = dict(fp16=torch.float16, bf16=torch.bfloat16)

NEURONS = [
    dict(type='LIF', tau=2.0),
    dict(type='LIF', tau=3.0, surrogate='atan'),
    dict(type='LIF', tau=2.0, surrogate='rectangle'),
    dict(type='IF'),
    dict(type='PLIF'),
    dict(type='SFA', levels=4),
    dict(type='SFA', levels=8, divisor=3),
    dict(type='ILIF', levels=4),
    dict(type='NILIF', levels=4),
]
LAYOUTS = dict(
    plain=lambda x: x,
    channels_last=lambda x: x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3),
    repeated=lambda x: x[:1].expand_as(x),
    sliced=lambda x: torch.stack([x, x], -1)[..., 0],
    batch_first=lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
)


def kernels_against_pytorch(part: Part) -> None:
    """Spikes bit for bit, but where a division by tau rounds otherwise; gradients against those of plain PyTorch."""
    x = torch.tensor([[float('nan'), float('inf'), -float('inf'), -0.0, 2.3]], device=part.device)
    for neuron, dtype in itertools.product(NEURONS, (torch.float32, torch.float16)):
        out = build_neuron(neuron).to(part.device)(x.to(dtype)).float()
        held = bool(out[:, 0].isnan().all()) and not bool(out[:, 1:].isnan().any())
        part.check(f'NaN stays NaN, and nothing else becomes it: {neuron["type"]}, {dtype}', held)
    if part.cuda and torch.cuda.mem_get_info()[0] > 24 * 2**30:
        n = 720_000_000  # times T more than 2^31
        x = torch.zeros(4, n, dtype=torch.float16, device=part.device)
        x[3, -7:] = 3.0
        with torch.no_grad():
            out = build_neuron(dict(type='LIF', tau=2.0))(x)
        part.check('more than 2^31 elements', int(out.sum(dtype=torch.float64)) == 7 and bool(out[3, -7:].all()))
    sizes = [(1, 1, 1, 1), (3, 11, 1, 1), (2, 24, 7, 7), (1, 16, 8, 8), (1, 1, 1025, 1025)]
    steps, sizes = ((4,), sizes[2:4]) if part.tiny else ((1, 4, 16), sizes)
    for neuron, dtype in itertools.product(NEURONS, (torch.float32, *HALVES.values())):
        spikes, flips, worst = 0, 0, 0.0
        for T, size in itertools.product(steps, sizes):
            for layout in LAYOUTS.values() if size == (1, 16, 8, 8) else [LAYOUTS['plain']]:
                x = layout((torch.randn(T, *size, device=part.device) * 3).to(dtype))
                results = []
                for on in (True, False):
                    module = build_neuron(neuron).to(part.device)
                    leaf = x.detach().requires_grad_()
                    with kernels.use(on):
                        out = module(leaf)
                        results.append((out.detach(), torch.autograd.grad(out.float().square().sum() + out.sum(), leaf)[0]))
                (out, grad), (plain_out, plain_grad) = results
                same = out == plain_out
                spikes, flips = spikes + out.numel(), flips + int((~same).sum())
                if bool(same.all()):  # gradients behind another spike are others
                    difference = (grad.double() - plain_grad.double()).abs().max()
                    worst = max(worst, float(difference / plain_grad.double().abs().max().clamp(min=1e-3)))
        limit = 0 if neuron.get('tau') != 3.0 else spikes // 100_000
        tolerance = 1e-5 if dtype == torch.float32 else 1e-2
        name = ' '.join(str(v) for v in neuron.values())
        part.check(
            f'{name}, {dtype}', flips <= limit and worst < tolerance, outputs=spikes, flipped=flips, gradient_relative=worst
        )
        if part.out_of_time('further neurons'):
            return


def rows(neuron: dict) -> dict[str, nn.Module]:
    """Rows of 16 channels as blocks have them."""
    return {
        'convolutions': Chain(
            neuron1=build_neuron(neuron), conv1=ConvNorm(16, 32, 3), neuron2=build_neuron(neuron), conv2=ConvNorm(32, 16)
        ),
        'RepConv': Chain(neuron1=build_neuron(neuron), rep=RepConvNorm(16, dict(type='BN')), neuron2=build_neuron(neuron)),
        'attention': SpikeAttention(16, 1, lambda _: ConvNorm(16, 16), neuron),
        'residual': Residual(*({name: SpikingConv(16, 16, neuron=neuron, norm_cfg=dict(type='BN'))} for name in 'ab')),
    }


def _step(module: nn.Module, x: Tensor, on: bool, half: torch.dtype | None = None) -> list[Tensor]:
    """Output and gradients of a copy of ``module``, with kernels or without, in float64."""
    module, x = copy.deepcopy(module).to(x.dtype), x.clone().requires_grad_()
    with kernels.use(on), torch.autocast(x.device.type, half or torch.bfloat16, enabled=half is not None):
        out = module(x)
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64, device=x.device).view(out.shape)
    grads = torch.autograd.grad((out.double() * weight).sum(), (x, *module.parameters()))
    return [t.detach().double() for t in (out, *grads)]


def _errors(row: nn.Module, x: Tensor, half: torch.dtype | None) -> list[float]:
    """The largest relative error of output and gradients against float64, with kernels and without."""
    exact, errors = _step(row, x.double(), False), []
    for on in (True, False):
        ours, wanted = _step(row, x, on, half), exact
        if half:  # small gradients are lost in it
            ours, wanted = ([out, torch.cat([g.flatten() for g in grads])] for out, *grads in (ours, wanted))
        errors.append(max(float((a - b).norm() / b.norm().clamp(min=1e-2)) for a, b in zip(ours, wanted, strict=True)))
    return errors


def rows_against_pytorch(part: Part) -> None:
    """Norms fused with neurons and shortcuts, and attentions: outputs, gradients, and a NaN that reaches the output."""
    torch.backends.cudnn.allow_tf32 = False
    modes, precisions = (True, False), (None, *HALVES.values())
    for neuron, training in itertools.product((dict(type='LIF'), dict(type='SFA', levels=4)), modes):
        torch.manual_seed(0)
        if part.tiny:
            precisions = (None,) if training else (torch.bfloat16,)
        for (name, row), half in itertools.product(rows(neuron).items(), precisions):
            row = row.to(part.device).train(training)
            steps = 4 if neuron['type'] == 'LIF' else 1
            # a spike that rounding flips makes a difference of its own, though hardly for two inputs
            pairs = [
                _errors(row, 2 * torch.randn(steps, 2, 16, 9, 9, device=part.device), half)
                for _ in range(1 if part.tiny else 2)
            ]
            error, plain = min(pairs)
            # half precision flips many, so that the kernels are held against what PyTorch loses without them
            limit = 1e-3 if half is None else 2 * plain + 1e-2
            what = f'{name}, {neuron["type"]}, {"training" if training else "evaluation"}, {half or torch.float32}'
            part.check(what, error <= limit, relative=error, without_kernels=plain)
        if part.out_of_time('further rows'):
            return
    model = ESpikeFormer(dict(dims=(16, 16, 16, 16), depths=(1, 1, 1, 1, 1), num_heads=2)).to(part.device)
    weight = next(p for name, p in model.named_parameters() if 'conv' in name and p.dim() == 4)
    with torch.no_grad():
        weight.view(-1)[0] = float('nan')
        loss = model(torch.randn(2, 3, 32, 32, device=part.device))[-1].float().mean()
    part.check('the loss of a network with a NaN weight is NaN', bool(loss.isnan()))
