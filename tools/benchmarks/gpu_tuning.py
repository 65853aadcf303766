"""Parts of gpu.py about the kernels' own settings: a memory checker, sizes of their blocks, gaps between launches."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections import Counter
from functools import partial
from unittest import mock

import torch
from gpu_parts import REPO, Part, images, loss_of, networks, precision, timed
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

from mmspike.kernels.gpu import launch, norm_neuron

SANITIZER = 'compute-sanitizer'
TRIAL = "from mmspike.kernels.gpu.trial import run_kernels; run_kernels('cuda', (4, 2, 33, 7, 7))"


def sanitizer(part: Part) -> None:
    """Every family of kernels under NVIDIA's checkers of memory and of races, where they are installed."""
    if not (part.cuda and shutil.which(SANITIZER)):
        part.note(SANITIZER, result='not on this machine' if part.cuda else 'not for this device')
        return
    for tool in ('memcheck', 'racecheck'):
        command = [SANITIZER, '--tool', tool, '--error-exitcode', '9', sys.executable, '-c', TRIAL]
        done = subprocess.run(command, cwd=REPO, capture_output=True, text=True, check=False)
        part.check(f'{SANITIZER} {tool}', done.returncode == 0, said=(done.stdout + done.stderr)[-300:])
        if part.out_of_time('further checkers'):
            return


def sweeps(part: Part) -> None:
    """Time of neurons by the elements of a block and the warps that it has; the package's own are 1024 and Triton's 4."""
    n, T, repeats = (2**10, 4, 1) if part.tiny else (2**25, 4, 10)
    x = torch.randn(T, n // T // 64, 64, device=part.device).half().requires_grad_()
    grad = torch.randn_like(x)
    for (name, module), block, warps in itertools.product(timed(part).items(), (512, 1024, 2048), (2, 4, 8)):
        start = partial(launch.start_on, num_warps=warps)
        with (
            mock.patch.multiple(launch, BLOCK=block, start_on=start),
            mock.patch.multiple(norm_neuron, TILE=block, start_on=start),
        ):

            def both(module: torch.nn.Module = module) -> None:
                torch.autograd.grad(module(x), x, grad)

            part.note(f'{name}, block {block}, warps {warps}', milliseconds=1000 * part.seconds(both, repeats))
        if part.out_of_time('further settings'):
            return


def launch_gaps(part: Part) -> None:
    """The share of a training step in which the device has nothing to do, and the kernels that take longest."""
    kind, activity = (DeviceType.CUDA, ProfilerActivity.CUDA) if part.cuda else (DeviceType.CPU, ProfilerActivity.CPU)
    for (name, build), batch in itertools.product(networks(part).items(), (1,) if part.tiny else (8, 64)):
        model, x = build().to(part.device).train(), images(part, batch).to(part.device)

        def step(model: torch.nn.Module = model, x: torch.Tensor = x) -> None:
            with precision(part, 'bf16'):
                loss = loss_of(model, x)
            loss.backward()

        step()
        part.wait()
        with profile(activities=[activity]) as profiled:
            step()
            part.wait()
        events = sorted((e.time_range.start, e.time_range.end, e.name) for e in profiled.events() if e.device_type == kind)
        busy, reached, times = 0.0, events[0][0], Counter[str]()
        for start, end, what in events:
            busy += max(0.0, end - max(start, reached))
            reached = max(reached, end)
            times[what] += end - start
        span = reached - events[0][0]
        longest = {what[:60]: round(time) for what, time in times.most_common(5)}
        part.note(f'{name}, batch {batch}, bf16', events=len(events), span_us=span, idle=1 - busy / span, longest_us=longest)
        if part.out_of_time('further networks'):
            return
