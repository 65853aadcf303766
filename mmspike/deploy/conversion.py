"""From a trained ordinary network to integer spikes: every ReLU becomes a neuron of D levels.

After "Optimal ANN-SNN conversion for high-accuracy and ultra-low-latency spiking neural networks" (arXiv 2303.04347), with
thresholds that make the error of every activation on real images smallest, set layer by layer in the network that is
converted already, and channel means that are those of the trained network (arXiv 2106.06984).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
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
from .auditing import audit
from .thresholds import best_thresholds, starting_membranes

#: what to do about an activation that is refused
REMEDY = (
    'Integer neurons stand in the places of ReLUs, behind norms of fixed statistics. Train the network with '
    "act_cfg=dict(type='ReLU') and norm_cfg=dict(type='BN') in these places first. For attention and gates take a backbone or "
    'head without them, or a spiking one of mmspike, which is trained as it is. A ReLU has to be a module (nn.ReLU) or to '
    'follow one'
)
#: values that a threshold is searched on, of all channels together
VALUES = 400_000
#: the largest one of the training is multiplied with it to train the converted network further
LEARNING_RATE = 0.25


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
        sites: Of each ReLU ``owner``, ``names``, and for each call ``channels`` and ``per_channel``, see
            :class:`mmspike.deploy.activations.Site`.
    """
    for site in sites:
        owner = model.get_submodule(site['owner'])
        each = site.get('per_channel', [False] * len(site['channels']))
        neurons = [ClipFloorShift(levels, channels=c, per_channel=p) for c, p in zip(site['channels'], each, strict=True)]
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
        places = '\n'.join(f'- {text}' for text in watch.refused)
        raise ConversionError(f'this network cannot be converted:\n{places}\n{REMEDY}')
    if not watch.sites:
        raise ConversionError('the forward of this network has no ReLU: there is nothing to convert')
    return list(watch.sites.values())


def neurons_of(model: nn.Module, sites: Iterable[Site]) -> Iterator[tuple[ClipFloorShift, Site, int]]:
    """The neurons of a converted network with the site and the number of the call whose place they have."""
    for site in sites:
        owner = model.get_submodule(site.owner)
        module: Any = owner._modules[site.names[0]] if site.names else owner.neuron
        neurons = module.neurons if isinstance(module, InTurn) else [module]
        for call, neuron in enumerate(neurons):
            yield neuron, site, call


def convert(model: nn.Module, sites: list[Site], levels: int) -> nn.Module:
    """Insert neurons with the best thresholds for the activations that the sites have, in place."""
    insert(model, described(sites), levels)
    for neuron, site, call in neurons_of(model, sites):
        with torch.no_grad():
            neuron.threshold.fill_(best_thresholds(torch.cat(site.samples[call])[None], levels)[0])
    return model


def calibrate(model: nn.Module, sites: list[Site], runs: Sequence[Callable[[], object]], rounds: int = 2) -> None:
    """Set thresholds and starting membranes of a converted network layer by layer, in place.

    In the order of the forward each neuron gets the thresholds with the smallest error on what it reads now, with all neurons
    before it set, and the starting membranes by which the means of its channels are those of the trained network. Both are
    worked out in float64, in turn. Each channel has a threshold of its own where every layer that reads it has a column of
    weights for it; see :func:`_by_channel`.

    Args:
        model: From :func:`convert`.
        sites: Of the trained network, from :func:`find`.
        runs: The forwards that ``find`` had; each neuron takes one of each.
    """
    places = {neuron: (site, call) for neuron, site, call in neurons_of(model, sites)}
    with torch.no_grad(), evaluating(model):
        _by_channel(model, {neuron: site.channels[call] for neuron, (site, call) in places.items() if site.maps[call]}, runs[0])
        for neuron, (site, call) in places.items():
            site.per_channel[call] = neuron.threshold.dim() > 0
        for neuron, calls in _calls(places, runs[0]).items():
            site, call = places[neuron]
            inputs = [part for run in runs for part in _inputs(neuron, run, calls)]
            _set(neuron, torch.cat(inputs, 1), site.means(call), rounds)


def _by_channel(model: nn.Module, neurons: dict[ClipFloorShift, int], run: Callable[[], object]) -> None:
    """Gives a threshold for each of so many channels to those neurons whose spikes no reader mixes up, in place.

    A reader that has no column of weights for each channel, as one behind a shuffle or a concatenation of channels, takes the
    spikes for floats as soon as those of the channels differ.
    """
    names = {module: name for name, module in model.named_modules()}
    before, thresholds = _readers(model, run), {neuron: neuron.threshold.max() for neuron in neurons}
    for neuron, channels in neurons.items():
        # unlike those of all other channels
        factors = 1 + 0.2 * (torch.arange(channels, device=neuron.threshold.device) * 0.618034 % 1)
        neuron.threshold = nn.Parameter(thresholds[neuron] * factors)
    after = _readers(model, run)
    mixed = {name for reader, read in before.items() if reader not in after for name in read}
    for neuron, channels in neurons.items():
        whole = thresholds[neuron].clone()
        neuron.threshold = nn.Parameter(whole if names[neuron] in mixed else whole.repeat(channels))


def _readers(model: nn.Module, run: Callable[[], object]) -> dict[tuple[str, str], set[str]]:
    """The operations that read spikes, and the names of the neurons that send them."""
    return {(r.name, r.op): r.neurons for r in audit(model, run).operations if r.fed != 'floats'}


def _calls(neurons: Iterable[nn.Module], run: Callable[[], object]) -> dict[Any, int]:
    """How often a forward calls neurons, in the order in which it does."""
    calls: dict[nn.Module, int] = {}

    def count(module: nn.Module, args: tuple) -> None:
        calls[module] = calls.get(module, 0) + 1

    handles = [neuron.register_forward_pre_hook(count) for neuron in neurons]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return calls


class _Reached(Exception):  # noqa: N818
    """Ends a forward: nothing of what follows is needed."""


def _inputs(neuron: nn.Module, run: Callable[[], object], calls: int) -> list[Tensor]:
    """What a neuron reads in the calls of a forward, see :func:`_columns`; one that is called once ends it."""
    found: list[Tensor] = []

    def take(module: nn.Module, args: tuple) -> None:
        found.append(_columns(args[0]))
        if calls == 1:
            raise _Reached

    handle = neuron.register_forward_pre_hook(take)
    try:
        run()
    except _Reached:
        pass
    finally:
        handle.remove()
    return found


def _columns(x: Tensor, number: int = 4096) -> Tensor:
    """Up to ``number`` places of [B, C, ...], by lot with seed 0: [C, places] in float64 on the CPU.

    Evenly spaced ones would be the same few rows and columns of each region of a detector.
    """
    columns = x.detach().movedim(1, 0).flatten(1)
    if columns.shape[1] > number:
        columns = columns[:, torch.randperm(columns.shape[1], generator=torch.Generator().manual_seed(0))[:number]]
    return columns.double().cpu()


def _set(neuron: ClipFloorShift, x: Tensor, means: Tensor, rounds: int) -> None:
    """The threshold and the starting membranes of a neuron that reads x [C, places], in turn."""
    if not x.numel():
        return
    threshold, start = neuron.threshold.double(), torch.zeros_like(means)
    for _ in range(rounds):
        values = (x + start[:, None]).clamp(min=0)
        if not threshold.dim():
            values = values.flatten()[None]
        threshold = best_thresholds(values[:, :: max(1, values.numel() // VALUES)], neuron.levels).view_as(threshold)
        start = starting_membranes(x, means, threshold, neuron.levels)
    neuron.threshold.copy_(threshold)
    if neuron.start is not None:
        neuron.start.copy_(start)


def described(sites: Iterable[Site]) -> list[dict]:
    """Sites as a config has them."""
    return [
        dict(owner=site.owner, names=list(site.names), channels=site.channels, per_channel=site.per_channel) for site in sites
    ]


def left_relus(model: nn.Module) -> list[str]:
    """Names of ReLUs that no forward came by, such as those of auxiliary heads."""
    return [name for name, module in model.named_modules() if isinstance(module, RELUS)]


def shorten_training(cfg: Config) -> None:
    """Let a config train for a tenth of its time, from a quarter of its largest learning rate to 0 by a cosine, in place."""
    if not cfg.get('train_cfg') or not cfg.get('optim_wrapper'):
        return
    by_epoch = 'max_epochs' in cfg.train_cfg
    length = 'max_epochs' if by_epoch else 'max_iters'
    end = max(1, cfg.train_cfg[length] // 10)
    cfg.train_cfg.update({length: end, 'val_interval': end})
    wrapper, schedules = cfg.optim_wrapper, cfg.get('param_scheduler') or []
    schedules = [schedules] if isinstance(schedules, dict) else schedules
    largest = max([wrapper.optimizer.lr, *(s['eta_max'] for s in schedules if 'eta_max' in s)])  # OneCycleLR has its own
    cosine = dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=by_epoch, begin=0, end=end)
    cfg.param_scheduler = [cosine | dict(convert_to_iter_based=True) if by_epoch else cosine]
    wrapper.optimizer.lr = LEARNING_RATE * largest
    # mmengine's own constructor knows keys: no decay pulls thresholds to 0
    if 'constructor' not in wrapper and wrapper.optimizer.get('weight_decay') is not None:
        given = wrapper.get('paramwise_cfg') or {}
        keys = {name: dict(decay_mult=0.0) for name in ('.threshold', '.start')}
        wrapper.paramwise_cfg = {**given, 'custom_keys': {**given.get('custom_keys', {}), **keys}}


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
    shorten_training(cfg)
    cfg.load_from, cfg.resume = str((folder / 'converted.pth').resolve()), False
    meta = {'dataset_meta': network.dataset_meta} if getattr(network, 'dataset_meta', None) else {}
    torch.save(dict(state_dict=network.state_dict(), meta=meta), folder / 'converted.pth')
    cfg.dump(folder / 'converted.py')
    return folder / 'converted.py', folder / 'converted.pth'
