"""Writes small networks as NIR files, reads them in every importer that is installed, and compares the outputs with PyTorch's.

In an environment of its own, since importers pin other versions: pip install norse snntorch spikingjelly nirtorch nir.
Prints a table and leaves with 1 if an importer that is said to read a network gives another output.
"""

import argparse
import io
import sys
import tempfile
import warnings
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout's mmspike, installed or not

from mmspike.cli import run
from mmspike.utils.errors import UserError

T = 4
READERS = ('norse', 'snntorch', 'spikingjelly')
LIF = dict(type='LIF', v_threshold=0.5)
#: what an importer is documented to be unable to read, in docs/runtimes.md
UNABLE = {('IF', 'snntorch'), ('reset', 'snntorch'), ('reset', 'norse'), ('average pools', 'norse')}


def parse_args() -> argparse.Namespace:
    return argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()


def networks() -> dict[str, Any]:
    """Name -> network on inputs [T, B, 3, 32, 32]."""
    from torch import nn

    from mmspike.models import MetaSpikeFormer, SpikingVGG
    from mmspike.models.layers import ConvNorm, SpikingConv

    def stack(neuron: dict, groups: int = 1) -> nn.Module:
        norm = dict(type='BN')
        convs = [
            SpikingConv(8, 8, 3, groups=groups, neuron=neuron, norm_cfg=norm),
            SpikingConv(8, 4, neuron=neuron, norm_cfg=norm),
        ]
        return nn.Sequential(ConvNorm(3, 8, 3, 2), *convs)

    options: dict = dict(T=T, neuron=LIF, temporal_output='keep')
    arch = dict(dims=(8, 16, 32, 32), depths=(1, 1, 1, 1, 1))
    return {
        'LIF': stack(LIF),
        'PLIF': stack(dict(LIF, type='PLIF', tau=3.0)),
        'IF': stack(dict(LIF, type='IF')),
        'reset': stack(dict(LIF, v_reset=-0.25)),
        'groups': stack(LIF, groups=4),
        'at the threshold': nn.Sequential(SpikingConv(3, 4, neuron=LIF)),
        'shortcuts': MetaSpikeFormer(arch, out_indices=(1,), **options),
        'average pools': SpikingVGG(dict(dims=(4, 6, 8), depths=(2, 1, 2)), **options),
    }


def importer(name: str, dt: float) -> Callable[[Any], Any]:
    if name == 'norse':
        return lambda graph: import_module('norse.torch').from_nir(graph, dt=dt)
    if name == 'snntorch':
        return import_module('snntorch.import_nir').import_from_nir
    return lambda graph: import_module('spikingjelly.activation_based.nir_exchange').import_from_nir(graph, dt=dt)


def main(args: argparse.Namespace) -> None:
    import torch

    from mmspike.deploy import fuse
    from mmspike.deploy.nir_export import DT, export_nir
    from mmspike.utils.optional import is_installed

    installed = [name for name in READERS if is_installed(name) and is_installed('nirtorch')]
    if not installed or not is_installed('nir'):
        needed = f'pip install {" ".join(READERS)} nirtorch nir'
        raise UserError(f'none of {", ".join(READERS)} can be run here: in an environment of its own, {needed}')
    import nir

    warnings.filterwarnings('ignore')
    torch.manual_seed(0)
    wrong = []
    for name, network in networks().items():
        for m in network.modules():
            if isinstance(m, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(m.weight, 0.5, 1.5)
                torch.nn.init.normal_(m.bias, 0.7, 0.5)
        x = torch.randn(T, 2, 3, 32, 32)
        if name == 'at the threshold':
            x = torch.randint(0, 3, x.shape) / 2  # 1 makes the membrane 0.5 in one step
        network = fuse(network)
        out = network(x)
        expected = out[-1] if isinstance(out, tuple) else out
        for reader in installed:
            with tempfile.TemporaryDirectory() as folder:
                export_nir(network, (3, 32, 32), f'{folder}/n.nir')
                graph = nir.read(f'{folder}/n.nir')
            try:
                with redirect_stdout(io.StringIO()):  # snntorch prints every parameter
                    out = simulate(importer(reader, DT)(graph), x)
                share = float(((out - expected).abs() > 1e-4).float().mean())
                result = f'{share:.2%} of the outputs differ'
            except (AssertionError, KeyError, NotImplementedError, ValueError) as error:
                share, result = 1.0, f'refused: {type(error).__name__}: {str(error).splitlines()[0][:60]}'
            print(f'{name:<17} {reader:<13} {result}', flush=True)
            if share and (name, reader) not in UNABLE:
                wrong.append(f'{name} in {reader}')
    if wrong:
        raise UserError(f'other outputs than documented: {", ".join(wrong)}')


def simulate(module: Any, x: Any) -> Any:
    """The outputs of an imported network for x [T, B, ...], step by step, its state handed on."""
    import torch

    state, outs = None, []
    with torch.no_grad():
        for frame in x:
            result = module(frame) if state is None else module(frame, state)
            out, state = result if isinstance(result, tuple) else (result, None)
            outs.append(out[0] if isinstance(out, tuple) else out)
    return torch.stack(outs)


if __name__ == '__main__':
    run(parse_args, main)
