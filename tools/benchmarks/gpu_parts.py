"""The parts of gpu.py: what each measures and checks."""

import contextlib
import itertools
import json
import math
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from gpu_checks import HALVES, NEURONS
from torch import Tensor, nn

from mmspike import kernels
from mmspike.analysis.flips import FlipReport, Way, measure_norms, spike_flips
from mmspike.models.backbones import ESpikeFormer, MetaSpikeFormer
from mmspike.models.layers import Chain
from mmspike.models.neurons import build_neuron

REPO = Path(__file__).resolve().parents[2]
TINY = dict(dims=(8, 16, 16, 16), depths=(1, 0, 0, 1, 0), num_heads=2)
#: of a training step and of the neurons' kernels
GOALS = dict(bandwidth=0.8, time_to_spikingjelly=0.5, memory_to_spikingjelly=0.5, four_steps_to_one=3.2)


class Part:
    """A part of the plan: the device, the time that is left, and the file that gets each record at once, as a line of JSON."""

    def __init__(self, file: Path, device: str, tiny: bool, seconds: float) -> None:
        self.file, self.device, self.tiny = file, torch.device(device), tiny
        self.end = time.monotonic() + seconds
        self.cuda = self.device.type == 'cuda'

    def note(self, what: str, **values: object) -> None:
        values = {k: float(f'{v:.4g}') if isinstance(v, float) else v for k, v in values.items()}
        with self.file.open('a') as file:
            file.write(json.dumps(dict(what=what) | values) + '\n')

    def check(self, what: str, holds: bool, **values: object) -> None:
        self.note(what, check='held' if holds else 'FAILED', **values)

    def goal(self, what: str, value: float, goal: float, largest: bool = True) -> None:
        held = value <= goal if largest else value >= goal
        self.note(what, value=value, goal=f'{"<=" if largest else ">="} {goal}', reached='yes' if held else 'no')

    def out_of_time(self, left: str) -> bool:
        if late := time.monotonic() > self.end:
            self.note('out of time', left_out=left)
        return late

    def seconds(self, step: Callable[[], object], repeats: int) -> float:
        """Median time of ``step``, after two to warm up."""
        times = []
        for i in range(repeats + 2):
            self.wait()
            start = time.perf_counter()
            step()
            self.wait()
            times += [time.perf_counter() - start] if i >= 2 else []
        return sorted(times)[len(times) // 2]

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def networks(part: Part) -> dict[str, Callable[..., nn.Module]]:
    arch = dict(meta=TINY if part.tiny else '15m', e=TINY if part.tiny else 'm')
    return {
        'Meta-SpikeFormer 15m': lambda **more: MetaSpikeFormer(arch['meta'], **dict(T=2 if part.tiny else 4) | more),
        'E-SpikeFormer-m': lambda **more: ESpikeFormer(arch['e'], **more),
    }


def images(part: Part, batch: int) -> Tensor:
    side = 32 if part.tiny else 224
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(0))


def loss_of(model: nn.Module, x: Tensor) -> Tensor:
    return model(x)[-1].float().square().mean()


def precision(part: Part, name: str) -> contextlib.AbstractContextManager:
    """float32, tf32, fp16 or bf16."""
    torch.backends.cudnn.allow_tf32 = name == 'tf32'
    return torch.autocast(part.device.type, HALVES[name]) if name in HALVES else contextlib.nullcontext()


def machine(part: Part) -> None:
    part.note('versions', python=platform.python_version(), torch=torch.__version__, cuda=torch.version.cuda or 'none')
    for name in ('triton', 'spikingjelly', 'mmcv', 'mmdet'):
        with contextlib.suppress(ImportError):
            part.note(name, version=str(getattr(__import__(name), '__version__', '?')))
    if part.cuda:
        card = torch.cuda.get_device_properties(0)
        part.note('card', name=card.name, capability=f'{card.major}.{card.minor}', memory_gb=card.total_memory / 2**30)


def timed(part: Part) -> dict[str, nn.Module]:
    """Neurons, and one fused with a norm in evaluation, on [T, N, 64]."""
    modules = {neuron['type']: build_neuron(neuron) for neuron in (NEURONS[0], NEURONS[5])}
    modules['BN and LIF'] = Chain(norm=nn.BatchNorm1d(64), neuron=build_neuron(NEURONS[0]))
    return {name: module.to(part.device).eval() for name, module in modules.items()}


def bandwidth(part: Part) -> None:
    """Bytes that a neuron has to read and write, by its time, against those of a copy."""
    repeats = 2 if part.tiny else 20
    for exponent, dtype in itertools.product((10,) if part.tiny else (22, 24, 26), (torch.float32, *HALVES.values())):
        n, T = 2**exponent, 4
        width = torch.empty((), dtype=dtype).element_size()
        source = torch.randn(T, n // T // 64, 64, device=part.device).to(dtype)
        copy = 2 * n * width / part.seconds(source.clone, repeats) / 1e9
        part.note(f'copy, 2^{exponent}, {dtype}', gb_per_s=copy)
        for name, module in timed(part).items():
            x = source.clone().requires_grad_()
            grad = torch.randn_like(source)

            def forward(module: nn.Module = module, source: Tensor = source) -> None:
                with torch.no_grad():
                    module(source)

            def both(module: nn.Module = module, x: Tensor = x, grad: Tensor = grad) -> None:
                torch.autograd.grad(module(x), x, grad)

            for kind, step, accesses in (('forward', forward, 2), ('forward and backward', both, 5)):
                rate = accesses * n * width / part.seconds(step, repeats) / 1e9
                part.note(f'{name} {kind}, 2^{exponent}, {dtype}', gb_per_s=rate, of_copy=rate / copy)
                if exponent == 26 and kind == 'forward':
                    part.goal(f'{name}, {dtype}: share of the copy bandwidth', rate / copy, GOALS['bandwidth'], False)
        if part.out_of_time('larger tensors'):
            return


def numerics(part: Part) -> None:
    """Loss and gradients against the CPU, then spikes that flip in other precisions."""
    for name, build in networks(part).items():
        torch.manual_seed(0)
        here, x = build().eval(), images(part, 2)
        measure_norms(Way(here, here), [x])
        there, state = build().eval().to(part.device), here.state_dict()
        there.load_state_dict(state)
        for dtype, limit in ((torch.float64, 1e-6), (torch.float32, None)):
            results = []
            for model, device in ((here, 'cpu'), (there, part.device)):
                model.load_state_dict(state)
                model.to(dtype)
                with precision(part, 'float32'):
                    loss = loss_of(model, x.to(device, dtype))
                results.append((loss.item(), [g.cpu().double() for g in torch.autograd.grad(loss, list(model.parameters()))]))
            (one, grads), (other, other_grads) = results
            gap = math.sqrt(sum(float((a - b).square().sum()) for a, b in zip(grads, other_grads, strict=True)))
            gap /= math.sqrt(sum(float(a.square().sum()) for a in grads))
            loss_gap = abs(one - other) / abs(one)
            values = dict(loss_relative=loss_gap, gradients_relative=gap)
            what = f'{name}, {str(dtype).removeprefix("torch.")}, device against CPU'
            if limit:
                part.check(what, loss_gap < limit and gap < limit, **values)
            else:  # a spike that the order of a sum flips changes what is behind it
                part.note(what, **values)

        def way(model: nn.Module, device: object, name: str) -> Way:
            def step(batch: Tensor) -> object:
                with precision(part, name):
                    return model(batch.to(device))

            return Way(model, step)

        one = way(there, part.device, 'float32')
        part.note(f'{name}: CPU against device', **_shares(spike_flips([x], way(here, 'cpu', 'float32'), one)))
        again = spike_flips([x], one, one).total.flipped
        part.check(f'{name}: the same twice', again == 0, flipped=again)
        for other_name in ('tf32', 'fp16', 'bf16'):
            report = spike_flips([x], one, way(there, part.device, other_name))
            part.note(f'{name}: float32 against {other_name}', **_shares(report))
        if part.out_of_time('further networks'):
            return


def _shares(report: FlipReport) -> dict[str, float]:
    return dict(all=report.total.share) | {stage.name: stage.share for stage in report.stages().values()}


def speed(part: Part) -> None:
    """Time and memory of training steps; out of memory is a result."""
    table: dict[tuple, dict] = {}
    builds = networks(part)

    def measure(what: str, batch: int, kind: str, build: Callable[[], nn.Module]) -> None:
        row: dict = {}
        try:
            model, x = build().to(part.device).train(), images(part, batch).to(part.device)
            if part.cuda:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()

            def step() -> None:
                model.zero_grad(set_to_none=True)
                with precision(part, kind):
                    loss = loss_of(model, x)
                loss.backward()

            row['milliseconds'] = 1000 * part.seconds(step, 1 if part.tiny else 5)
            row['images_per_s'] = 1000 * batch / row['milliseconds']
            if part.cuda:
                row['memory_mb'] = torch.cuda.max_memory_allocated() / 2**20
        except torch.OutOfMemoryError:
            row = dict(result='out of memory')
        except ImportError as error:
            row = dict(result=f'not installed: {error.name}')
        part.note(f'{what}, batch {batch}, {kind}', **row)
        table[what, batch, kind] = row

    def spikingjelly(T: int) -> nn.Module:
        import straightforward

        arch = TINY if part.tiny else MetaSpikeFormer.arch_settings['metaspikeformer-15m']
        return straightforward.meta_spikeformer(arch['dims'], arch['depths'], T)

    meta, e = builds
    steps = 2 if part.tiny else 4
    for batch in (2,) if part.tiny else (32, 8, 128):
        for kind in ('bf16',) if part.tiny else ('bf16', 'float32', 'fp16', 'tf32'):
            measure(meta, batch, kind, builds[meta])
            measure('the same, spikingjelly', batch, kind, lambda: spikingjelly(steps))
            if kind == 'bf16':
                measure('the same, T = 1', batch, kind, lambda: builds[meta](T=1))
                measure('the same, with_cp', batch, kind, lambda: builds[meta](with_cp=True))
                measure('the same, ReLU', batch, kind, lambda: builds[meta](neuron=dict(type='ReLU')))
                with kernels.use(False):
                    measure('the same, plain PyTorch', batch, kind, builds[meta])
            measure(e, batch, kind, builds[e])
            if kind == 'bf16':
                measure(f'{e}, ReLU', batch, kind, lambda: builds[e](neuron=dict(type='ReLU')))
            if part.out_of_time('further batches and precisions'):
                break
        for quantity, key in (('time', 'milliseconds'), ('memory', 'memory_mb')):
            ours, theirs = table[meta, batch, 'bf16'].get(key), table['the same, spikingjelly', batch, 'bf16'].get(key)
            if ours and theirs:
                goal = GOALS[f'{quantity}_to_spikingjelly']
                part.goal(f'{quantity} of a step in bf16, ours / spikingjelly, batch {batch}', ours / theirs, goal)
        times = [table[what, batch, 'bf16'].get('milliseconds') for what in (meta, 'the same, T = 1')]
        if all(times):
            part.goal(f'time of T = {steps} / T = 1, batch {batch}', times[0] / times[1], GOALS['four_steps_to_one'])
        if time.monotonic() > part.end:
            return


def compiled(part: Part) -> None:
    """torch.compile makes one graph of a network, with the same loss and gradients."""
    builds = list(networks(part).items())
    for name, build in builds[-1:] if part.tiny else builds:  # tracing takes long
        torch.manual_seed(0)
        model, x = build().to(part.device).train(), images(part, 2 if part.tiny else 32).to(part.device)
        once = torch.compile(model, fullgraph=True, backend='eager' if part.tiny else 'inductor')
        results = []
        for kind, run in (('eager', model), ('compiled', once)):
            start = time.perf_counter()
            with precision(part, 'float32'):
                loss = loss_of(run, x)
                grads = torch.autograd.grad(loss, list(model.parameters()))
            part.wait()
            results.append((loss.item(), torch.cat([g.flatten() for g in grads])))
            part.note(f'{name}, {kind}: first step', seconds=time.perf_counter() - start)

            def step(run: nn.Module = run, x: Tensor = x) -> None:
                with precision(part, 'bf16'):
                    loss = loss_of(run, x)
                loss.backward()

            if not part.tiny:
                part.note(f'{name}, {kind}, bf16', milliseconds=1000 * part.seconds(step, 5))
        if part.cuda:
            _without_launches(part, name, model, x)
        (one, grad), (other, other_grad) = results
        gap = float((grad - other_grad).norm() / grad.norm())
        part.check(
            f'{name}: loss of the one graph', abs(one - other) <= 1e-2 * abs(one), eager=one, compiled=other, gradient=gap
        )
        if part.out_of_time('further networks'):
            return


def _without_launches(part: Part, name: str, model: nn.Module, x: Tensor) -> None:
    """The step as a CUDA graph, which is launched as a whole."""
    torch.compiler.reset()
    graph = torch.compile(model, mode='reduce-overhead')

    def step() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        with precision(part, 'bf16'):
            loss = loss_of(graph, x)
        loss.backward()

    try:
        part.note(f'{name}, reduce-overhead, bf16', milliseconds=1000 * part.seconds(step, 5))
    except Exception as error:  # of the compiler, which is not what is checked here
        part.note(f'{name}, reduce-overhead, bf16', result=f'{type(error).__name__}: {error}'[:300])
