"""From a trained ordinary network to integer spikes: every ReLU becomes a neuron of D levels.

After "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking neural networks" (arXiv 2303.04347), with
thresholds that make the error of every activation on real images smallest.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from torch import Tensor, nn

from mmspike.config.loading import model_config
from mmspike.models.checkpoints import without_pretrained
from mmspike.models.inspection import evaluating
from mmspike.models.neurons import ClipFloorShift
from mmspike.registry import MODELS

from .activations import RELUS, ConversionError, Site, Watch


class InTurn(nn.Module):
    """The neurons of a ReLU that its owner calls several times in a forward, as a residual block of ResNet does."""

    def __init__(self, neurons: Iterable[nn.Module]) -> None:
        super().__init__()
        self.neurons = nn.ModuleList(neurons)
        self.turn = 0

    def forward(self, x: Tensor) -> Tensor:
        self.turn += 1
        return self.neurons[self.turn - 1](x)


def _restart(owner: nn.Module, args: tuple) -> None:
    for child in owner._modules.values():
        if isinstance(child, InTurn):
            child.turn = 0


def _fire(layer: nn.Module, args: tuple, out: Tensor) -> Tensor:
    return layer.neuron(out)


def insert(model: nn.Module, sites: Iterable[dict], levels: int) -> nn.Module:
    """Put neurons into the places of ReLUs.

    Args:
        sites: Of each ReLU ``owner``, ``names`` and ``calls``, see :class:`mmspike.deploy.activations.Site`.
    """
    for site in sites:
        owner = model.get_submodule(site['owner'])
        neurons = [ClipFloorShift(levels) for _ in range(site['calls'])]
        if not site['names']:
            # the ReLU that follows as a function changes nothing then
            owner.add_module('neuron', neurons[0])
            owner.register_forward_hook(_fire)
            continue
        if len(neurons) > 1:
            owner.register_forward_pre_hook(_restart)
        both = neurons[0] if len(neurons) == 1 else InTurn(neurons)
        for name in site['names']:
            owner._modules[name] = both
    return model


@MODELS.register_module()
def Converted(model: dict, levels: int, sites: list[dict]) -> nn.Module:  # noqa: N802
    """The network of a model config with neurons in the places of its ReLUs; ``ann_to_snn.py`` writes such configs.

    Args:
        model: Config of the model that was trained.
        levels: D of all neurons.
        sites: See :func:`insert`.
    """
    return insert(MODELS.build(model), sites, levels)


def find(model: nn.Module, runs: Iterable[Callable[[], object]]) -> list[Site]:
    """The ReLUs of a network with values of them.

    Args:
        model: The network, in evaluation mode meanwhile.
        runs: Forwards on real images.

    Raises:
        ConversionError: The network has no ReLU, or what integer spikes cannot do; all places are named.
    """
    watch = Watch(model)
    with torch.no_grad(), evaluating(model):
        for run in runs:
            with watch.watching():
                run()
    if watch.refused:
        raise ConversionError('this network cannot be converted:\n' + '\n'.join(f'- {text}' for text in watch.refused))
    if not watch.sites:
        raise ConversionError('the forward of this network has no ReLU: there is nothing to convert')
    return list(watch.sites.values())


def best_threshold(values: Tensor, levels: int, candidates: int = 200) -> float:
    """The threshold with the smallest mean square error of the quantised values [n], which are not negative."""
    largest = values.max()
    if not largest > 0:  # never active on these images
        return 1.0
    thresholds = (largest * torch.linspace(1 / candidates, 1, candidates)).tolist()

    def error(threshold: float) -> float:
        unit = threshold / levels
        return (((values / unit).clamp(0, levels) + 0.5).floor() * unit - values).square().mean().item()

    return min(thresholds, key=error)


def convert(model: nn.Module, sites: list[Site], levels: int) -> nn.Module:
    """Insert neurons with the best thresholds, in place."""
    insert(model, described(sites), levels)
    for site in sites:
        owner = model.get_submodule(site.owner)
        module: Any = owner._modules[site.names[0]] if site.names else owner.neuron
        neurons = module.neurons if isinstance(module, InTurn) else [module]
        for neuron, samples in zip(neurons, site.samples, strict=True):
            with torch.no_grad():
                neuron.threshold.fill_(best_threshold(torch.cat(samples), levels))
    return model


def described(sites: Iterable[Site]) -> list[dict]:
    """Sites as a config has them."""
    return [dict(owner=site.owner, names=list(site.names), calls=site.calls) for site in sites]


def left_relus(model: nn.Module) -> list[str]:
    """Names of ReLUs that no forward came by, such as those of auxiliary heads."""
    return [name for name, module in model.named_modules() if isinstance(module, RELUS)]


def save_converted(network: nn.Module, cfg: Config, folder: str | Path, sites: list[Site], levels: int) -> tuple[Path, Path]:
    """Write ``converted.py`` and ``converted.pth``, which ``tools/test.py`` tests and ``tools/train.py`` trains further."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    cfg = Config(cfg.to_dict())
    inner = without_pretrained(model_config(cfg))
    cfg.pop('data_preprocessor', None)  # mmengine would hand it to the model around the inner one
    cfg.model = ConfigDict(type='mmspike.Converted', model=inner, levels=levels, sites=described(sites))
    imports = cfg.get('custom_imports') or dict(imports=[], allow_failed_imports=False)
    imports['imports'] = [*dict.fromkeys([*imports['imports'], 'mmspike', 'mmspike.deploy'])]
    cfg.custom_imports = imports
    cfg.load_from, cfg.resume = str((folder / 'converted.pth').resolve()), False
    meta = {'dataset_meta': network.dataset_meta} if getattr(network, 'dataset_meta', None) else {}
    torch.save(dict(state_dict=network.state_dict(), meta=meta), folder / 'converted.pth')
    cfg.dump(folder / 'converted.py')
    return folder / 'converted.py', folder / 'converted.pth'
