"""The base of every spiking backbone: checked input, features as data, freezing and checkpointing."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import accumulate
from operator import mul
from typing import Any

import numpy as np
import torch
from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from mmspike.models.checkpoints import init_weights
from mmspike.models.layers import RunningRate, Signal, bits_of, channels_inside, mean_time, repeat_time, set_weight_bits, walk
from mmspike.models.neurons import BaseNeuron
from mmspike.utils.errors import UserError


class InputShapeError(UserError, ValueError):
    """Input that a backbone cannot take; the message has its shape and the expected one."""


def resolve_arch(arch: str | dict, settings: dict[str, dict], name: str) -> dict:
    """Dims of an ``arch``, a preset's name or a dict with the presets' keys (those it leaves out take the first preset's)."""
    if isinstance(arch, str):
        # 'metaspikeformer-15m' or just '15m'
        matches = {k: v for k, v in settings.items() if arch.lower() in (k, k.split('-', 1)[-1])}
        if not matches:
            raise ValueError(f"{name} has no arch '{arch}': choose one of {list(settings)}, or give a dict of dims")
        return dict(next(iter(matches.values())))
    default = next(iter(settings.values()))
    if not isinstance(arch, dict):
        raise ValueError(f'{name}: arch must be a name, one of {list(settings)}, or a dict of dims, got {arch!r}')
    unknown = set(arch) - set(default)
    if unknown or 'dims' not in arch:
        raise ValueError(f"{name}: an arch dict needs 'dims' and may have {sorted(default)}, got {dict(arch)}")
    arch = default | dict(arch)
    for key, value in default.items():
        lengths = sorted({len(s[key]) for s in settings.values()}) if isinstance(value, tuple) else []
        if lengths and (not isinstance(arch[key], Sequence) or len(arch[key]) not in lengths):
            wanted = ' or '.join(map(str, lengths))
            raise ValueError(f"{name}: arch['{key}'] needs {wanted} entries, as {value}, got {arch[key]}")
    for key in {'dims', 'depths', 'depth'} & set(arch):
        numbers = [arch[key]] if key == 'depth' else arch[key]
        least = 0 if key == 'depths' else 1  # a part without blocks is its first layer alone
        if any(isinstance(n, bool) or not isinstance(n, int) or n < least for n in numbers):
            wanted = 'positive integers' if least else 'integers of 0 or more'
            raise ValueError(f"{name}: arch['{key}'] must be {wanted}, got {arch[key]!r}")
    return arch


def stage_settings(*dims: int) -> dict:
    """The dims of a network of :meth:`SpikingBackbone._build_stages`."""
    return dict(dims=dims, depths=(1, 1, 2, 6, 2), num_heads=8, mlp_ratio=4)


def drop_path_rates(last: float, blocks: int) -> Iterator[float]:
    """The rates of stochastic depth of blocks, linear from 0 to that of the last one."""
    return iter(np.linspace(0, last, blocks).tolist())


def _mask_for(block: nn.Module, visible: Tensor | None) -> tuple[Tensor, ...]:
    return (visible,) if visible is not None and getattr(block, 'takes_mask', False) else ()


class SpikingBackbone(BaseModule):
    """Base of the spiking backbones.

    A subclass calls ``_register_stages`` with its parts in order and gets freezing, checkpointing and features from it. As a
    rule it also has ``neuron``, a neuron config (see :func:`mmspike.models.neurons.build_neuron`), ``norm_cfg``, by default BN,
    and ``drop_path_rate``, the stochastic depth of the last block, which grows linearly from 0 at the first.

    Args:
        T: Time steps. An image is shown T times, which neurons without memory (SFA) gain nothing from; event frames must have
            this T.
        in_channels: Channels of the input: 3 for images, 2 for event frames of two polarities.
        out_indices: Stages whose features are returned, in this order of the network; negative ones count from the last.
            ``'stem'`` is the first part, at stride 2 in most. None: all stages, without the stem.
        temporal_output: 'mean' returns [B, C, H, W], averaged over T, for any ANN neck or head; 'keep' [T, B, C, H, W].
        frozen_stages: 0 freezes the stem, k also the first k stages (norm statistics included); -1 freezes nothing. Stages
            behind the last of ``out_indices`` are never run and always frozen.
        norm_eval: Keep all norms in evaluation mode in training.
        with_cp: Recompute blocks in the backward pass instead of storing their activations.
        binary: Weights of one bit (BESTformer, arXiv 2501.05904) in all layers but the first, which sees the image, and
            depthwise ones, see :func:`mmspike.models.layers.binary_weight`. Not for networks that merge several layers into
            one for inference, whose weights would have more than two values.
        weight_bits: Bits of a weight in all layers but the first, 2 to 8, see
            :func:`mmspike.models.layers.set_weight_bits`; 1 as ``binary``.
        init_cfg: mmengine's; ``dict(type='Pretrained', checkpoint=…)`` loads a converted checkpoint.
    """

    #: preset name -> dims
    arch_settings: dict[str, dict] = {}
    #: the config of neurons where none is given
    default_neuron = dict(type='LIF', tau=2.0)
    #: whether there are stacks of layers that are merged into one for inference
    merges_layers = False

    def __init__(
        self,
        T: int = 4,
        in_channels: int = 3,
        out_indices: Sequence[int | str] | None = None,
        temporal_output: str = 'mean',
        frozen_stages: int = -1,
        norm_eval: bool = False,
        with_cp: bool = False,
        binary: bool = False,
        weight_bits: int | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if isinstance(T, bool) or not isinstance(T, int) or T < 1:
            raise ValueError(f'T must be a positive integer (time steps), got {T!r}')
        if temporal_output not in ('mean', 'keep'):
            raise ValueError(f"temporal_output must be 'mean' or 'keep', got {temporal_output!r}")
        self.T = T
        self.in_channels = in_channels
        self.temporal_output = temporal_output
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.weight_bits = bits_of(binary, weight_bits)
        if self.weight_bits and self.merges_layers:
            raise ValueError(
                f'{type(self).__name__} merges layers into one for inference, which leaves weights of more bits: '
                f'{"binary=True" if binary else f"weight_bits={weight_bits}"} is for the other backbones'
            )
        self.with_cp = with_cp
        self._requested_indices = [out_indices] if isinstance(out_indices, (int, str)) else out_indices

    def _resolved(self, arch: str | dict | None, neuron: dict | None, norm_cfg: dict | None) -> tuple[dict, dict, dict]:
        """The dims of ``arch``, by default the first preset's, and the configs of neurons and norms or those by default."""
        arch = next(iter(self.arch_settings)) if arch is None else arch
        dims = resolve_arch(arch, self.arch_settings, type(self).__name__)
        return dims, neuron or self.default_neuron, norm_cfg or dict(type='BN')

    def _build_stages(
        self,
        arch: dict,
        strides: Sequence[int],
        neuron: dict,
        norm_cfg: dict,
        downsample: Callable[[int, int, int, dict | None, dict], nn.Module],
        blocks: Sequence[Callable[[int], nn.Module]],
    ) -> None:
        """The layout of spike-driven transformers V2 and V3: parts of a downsampling convolution and blocks, the stem first.

        ``downsample`` makes the former as :class:`Downsample`, ``blocks`` has for each part what makes a block of a width.
        """
        if len(strides) != len(blocks):
            raise ValueError(f'strides needs {len(blocks)} entries, one a downsampling convolution, got {strides}')
        widths = [arch['dims'][0] // 2, *arch['dims']]
        parts = []
        for i, (dim, depth, stride, block) in enumerate(zip(widths, arch['depths'], strides, blocks, strict=True)):
            # the first convolution sees the image: no neuron before it
            down = downsample(widths[i - 1] if i else self.in_channels, dim, stride, neuron if i else None, norm_cfg)
            parts.append(nn.Sequential(down, *[block(dim) for _ in range(depth)]))
        self._register_stages(parts[0], parts[1:], widths, list(accumulate(strides, mul)))

    def _register_stages(
        self, stem: nn.Module, stages: Sequence[nn.Module], channels: Sequence[int], strides: Sequence[int]
    ) -> None:
        """Take the stem and the stages, and the channels and strides of the features after each (the stem's first)."""
        self.stem = stem
        self.stages = nn.ModuleList(stages)
        if self.weight_bits:
            for block in (*list(stem)[1:], *stages):
                set_weight_bits(block, self.weight_bits)
        n = len(self.stages)
        requested: list[Any] = list(range(n) if self._requested_indices is None else self._requested_indices)
        indices = []
        for i in requested:
            if i != 'stem' and (not isinstance(i, int) or not -n <= i < n):
                raise ValueError(f"out_indices must be 'stem' or integers in [{-n}, {n - 1}], got {i!r} in {requested}")
            indices.append(0 if i == 'stem' else i % n + 1)
        if sorted(set(indices)) != indices:
            raise ValueError(f'out_indices must ascend without repetition, got {requested}')
        if not -1 <= self.frozen_stages <= n:
            raise ValueError(f'frozen_stages must be in [-1, {n}], got {self.frozen_stages}')
        #: position of each returned feature in [stem, *stages]
        self._positions = tuple(indices)
        self.out_channels = tuple(channels[i] for i in indices)
        self.out_strides = tuple(strides[i] for i in indices)
        neurons = [m for m in self.modules() if isinstance(m, BaseNeuron)]
        self._steps_are_equal = bool(neurons) and not any(m.has_memory for m in neurons)
        self._freeze()  # at once, not in train(): DistributedDataParallel looks when it wraps the model
        if self.with_cp and any(m.stateful for m in neurons):
            raise ValueError(
                'with_cp=True runs blocks twice and cannot be used with stateful neurons: set one of them to False'
            )

    def _check_input(self, x: Tensor) -> None:
        shape = tuple(x.shape)
        if x.dim() not in (4, 5):
            raise InputShapeError(f'expected images [B, C, H, W] or frames [T, B, C, H, W], got a tensor of shape {shape}')
        if x.dim() == 5 and shape[0] != self.T:
            raise InputShapeError(
                f'got frames [T, B, C, H, W] of shape {shape}: T is {shape[0]}, but the model has T={self.T}. Set T of the '
                'backbone and of mmspike.EventsToFrames or LoadEventFrames in the pipelines to the same number'
            )
        if shape[-3] != self.in_channels:
            raise InputShapeError(f'got input of shape {shape}: the model has in_channels={self.in_channels}, not {shape[-3]}')
        if min(shape[-2:]) < 32:
            raise InputShapeError(f'images must be at least 32 x 32 px, got {shape[-2]} x {shape[-1]}: enlarge or pad them')
        if not x.is_floating_point():
            raise InputShapeError(f'images must be floats, as a data preprocessor normalises them, got {x.dtype}')
        if x.dtype == torch.float64 and x.dtype != (weights := next(self.parameters()).dtype):
            raise InputShapeError(f'images are {x.dtype}, the weights {weights}: convert the images by images.float()')

    def _repeat(self, x: Tensor) -> Tensor:
        """[1, B, ...] of an image at every time step; once a warning where that can change nothing."""
        if self._steps_are_equal and not torch.compiler.is_compiling():
            self._steps_are_equal = False
            warnings.warn(
                f'{type(self).__name__} with T={self.T} on images computes the same {self.T} times: none of its neurons has a '
                'memory from step to step (the levels of SFA are no time axis). Set T=1',
                stacklevel=3,
            )
        return repeat_time(x[0], self.T)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Features of the requested stages.

        Args:
            x: Images [B, C, H, W] or event frames [T, B, C, H, W], H and W at least 32.

        Returns:
            A tuple, one a stage in ``out_indices``: [B, C, H / stride, W / stride] (rounded up) with
            ``temporal_output='mean'``, [T, B, C, H / stride, W / stride] with 'keep'. They are membranes, not spikes.
        """
        return self._features(x)

    def _features(self, x: Tensor, visible: Tensor | None = None) -> tuple[Tensor, ...]:
        """Features of ``x``; a mask ``visible`` [B, h, w] goes to the blocks that have ``takes_mask``."""
        self._check_input(x)
        # an image goes through the first convolution once and is repeated before the first neuron
        first = self.stem[0]
        x = first(channels_inside(x.unsqueeze(0) if x.dim() == 4 else x), *_mask_for(first, visible))
        if x.shape[0] != self.T:
            x = self._repeat(x)
        outs, signal = [], Signal(x)
        for position, stage in enumerate([list(self.stem)[1:], *self.stages]):
            if position > self.last_position:
                break
            if self.with_cp or visible is not None:
                for block in stage:
                    signal = Signal(self._run(block, signal.x, *_mask_for(block, visible)))
            else:
                signal = walk(stage, signal)
            if position in self._positions:
                x = signal.x
                outs.append((mean_time(x) if self.temporal_output == 'mean' else x).contiguous())
        return tuple(outs)

    @property
    def last_position(self) -> int:
        """Position of the last returned feature in [stem, *stages]: what comes behind it is not computed."""
        return self._positions[-1]

    def init_weights(self) -> None:
        """Initialise as mmengine does, but a ``Pretrained`` checkpoint must fit entirely.

        See :func:`mmspike.models.checkpoints.init_weights`.
        """
        init_weights(self, super().init_weights)

    def _run(self, block: nn.Module, x: Tensor, *args) -> Tensor:
        if not (self.with_cp and self.training and x.requires_grad):
            return block(x, *args)
        return checkpoint(block, x, *args, use_reentrant=False, context_fn=lambda: statistics_kept(block))

    def _freeze(self) -> None:
        """Freeze the first stages, as asked for, and those behind the last requested feature, which are never run.

        Without gradients of their own the latter would stop DistributedDataParallel.
        """
        parts = [self.stem, *self.stages]
        for part in [*parts[: self.frozen_stages + 1], *parts[self._positions[-1] + 1 :]]:
            part.eval()
            for p in part.parameters():
                p.requires_grad = False

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter and the number of depths, for layer-wise decay of the learning rate.

        Depth 0 holds the stem and what is added to its tokens, depth i + 1 block i of the stages, counted through all of them,
        the last one everything behind: heads, and norms after the last stage. A layer that only changes size and width at the
        beginning of a stage counts with the block behind it.

        Args:
            param_name: Name of the parameter.
            prefix: What the backbone's names begin with, such as 'backbone.'.

        Example:
            >>> from mmspike.models import MetaSpikeFormer
            >>> MetaSpikeFormer().get_layer_depth('backbone.stages.0.1.conv1.weight', prefix='backbone.')
            (1, 13)
        """
        # a first item that is of another type than the second only leads to the stage
        leads = [len(stage) > 1 and type(stage[0]) is not type(stage[1]) for stage in self.stages]
        blocks = [len(stage) - lead for stage, lead in zip(self.stages, leads, strict=True)]
        depths = sum(blocks) + 2
        name = param_name.removeprefix(prefix)
        if not param_name.startswith(prefix):
            return depths - 1, depths
        if name.startswith('stages.'):
            stage, item = map(int, name.split('.')[1:3])
            return sum(blocks[:stage]) + max(item - leads[stage], 0) + 1, depths
        return (depths - 1 if 'norm' in name.split('.')[0] else 0), depths

    def train(self, mode: bool = True) -> 'SpikingBackbone':
        super().train(mode)
        if mode:
            self._freeze()
            if self.norm_eval:
                for m in self.modules():
                    if isinstance(m, (_BatchNorm, RunningRate)):
                        m.eval()
        return self


#: what modules keep of a batch in training
STATISTICS = ((_BatchNorm, ('running_mean', 'running_var', 'num_batches_tracked')), (RunningRate, ('running_rate',)))


def statistics_kept(module: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Contexts for the first pass of a checkpointed module and for its recomputation.

    The recomputation sees the running statistics that the first pass left, which RepConv reads, whatever came in between,
    and updates none.
    """
    modules = [(m, n) for m in module.modules() for cls, n in STATISTICS if m.training and isinstance(m, cls)]
    kept = [(m, name) for m, names in modules for name in names if getattr(m, name) is not None]
    left: list[Tensor] = []

    @contextmanager
    def first() -> Iterator[None]:
        yield
        left.extend(getattr(m, name).clone() for m, name in kept)

    @contextmanager
    def recomputing() -> Iterator[None]:
        now: list[tuple[nn.Module, str, Any]] = [(m, 'momentum', m.momentum) for m, _ in modules] + [
            (m, name, getattr(m, name)) for m, name in kept
        ]
        for m, _ in modules:
            m.momentum = 0.0
        for (m, name), value in zip(kept, left, strict=True):
            setattr(m, name, value)
        try:
            yield
        finally:
            for m, name, value in now:
                setattr(m, name, value)

    class Again(AbstractContextManager):
        """Entered once for each backward pass through a graph that is kept."""

        def __enter__(self) -> None:
            self.context = recomputing()
            self.context.__enter__()

        def __exit__(self, *error) -> None:
            self.context.__exit__(*error)

    return first(), Again()
