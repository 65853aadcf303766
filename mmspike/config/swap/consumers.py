"""Rewrites the channels of those that read a backbone's features: necks, decode heads, classifiers."""

from collections.abc import Iterator
from typing import Any

from mmspike.config.names import type_name

from .features import Features
from .parse import SwapError


def first_neck(model: dict) -> Any:
    """The config of the neck that reads the backbone, the first one of a list; None: there is none."""
    neck = model.get('neck')
    if isinstance(neck, list | tuple):
        neck = neck[0] if neck else None
    return neck


def reads_backbone(neck: dict | None) -> bool:
    """True if a neck has channels of its own, so that the heads behind it do not see those of the backbone."""
    return neck is not None and 'in_channels' in neck


def _renamed(value: Any, old: Features, new: Features, where: str) -> Any:
    """``value``, channels of one scale or a list of them, as the new backbone has them.

    A list is that of all scales or of adjacent ones, of which the coarsest possible, finest or coarsest first.
    """
    if isinstance(value, int):
        if value in old.channels:
            return new.channels[len(old.channels) - 1 - old.channels[::-1].index(value)]
    else:
        n = len(value)
        for order in (1, -1):
            before, after = old.channels[::order], new.channels[::order]
            starts = range(len(before) - n, -1, -1) if order == 1 else range(len(before) - n + 1)
            for start in starts:
                if before[start : start + n] == list(value):
                    return type(value)(after[start : start + n])
    raise SwapError(f'{where}.in_channels={value} are not channels of the old backbone ({old})')


def rewrite_neck(neck: dict, old: Features, new: Features) -> None:
    neck['in_channels'] = _renamed(neck['in_channels'], old, new, f'neck ({type_name(neck)})')


def rewrite_detector_heads(model: dict, old: Features, new: Features) -> None:
    """Heads of a detector without neck: those that have the channels of a feature of the old backbone get the new ones'."""

    def rewrite(cfg: dict, key: str) -> None:
        value = cfg.get(key)
        if isinstance(value, int) and value in old.channels or isinstance(value, list) and list(value) == old.channels:
            cfg[key] = _renamed(value, old, new, type_name(cfg))

    for name, head in model.items():
        if not name.endswith('_head') or not isinstance(head, dict):
            continue
        rewrite(head, 'in_channels')
        if name == 'roi_head':
            for part_name, part in head.items():
                for cfg in part if isinstance(part, list) else [part]:
                    if isinstance(cfg, dict):
                        rewrite(cfg, 'out_channels' if part_name.endswith('roi_extractor') else 'in_channels')


def decode_heads(model: dict) -> Iterator[tuple[str, dict]]:
    """Name and config of the decode and auxiliary heads of a segmentor, the nested ones that read features included."""

    def walk(name: str, head: dict, nested: bool) -> Iterator[tuple[str, dict]]:
        if 'in_channels' in head and ('in_index' in head or not nested):
            yield name, head
        for key, value in head.items():
            if isinstance(value, dict) and 'type' in value:
                yield from walk(f'{name}.{key}', value, True)

    for key in ('decode_head', 'auxiliary_head'):
        heads = model.get(key)
        for i, head in enumerate(heads if isinstance(heads, list) else [heads]):
            if head:
                yield from walk(f'{key}[{i}]' if isinstance(heads, list) else key, head, False)


def _scales(name: str, head: dict, old: Features) -> list[int]:
    """Indices of the features that a decode head reads."""
    index = head.get('in_index')
    if index is None:
        index = list(range(len(head['in_channels']))) if isinstance(head['in_channels'], list | tuple) else -1
    scales = [index] if isinstance(index, int) else list(index)
    if any(not -len(old.channels) <= i < len(old.channels) for i in scales):
        raise SwapError(f'{name} ({type_name(head)}).in_index={index} asks for more features than {len(old.channels)} ({old})')
    return scales


def rewrite_decode_heads(model: dict, old: Features, new: Features) -> None:
    """Channels of the decode and auxiliary heads of a segmentor without neck.

    Raises:
        SwapError: A head's channels are not those of the features at its ``in_index``.
    """
    for name, head in decode_heads(model):
        scales = _scales(name, head, old)
        value = head['in_channels']
        expected = [old.channels[i] for i in scales]
        if ([value] if isinstance(value, int) else list(value)) != expected:
            raise SwapError(
                f'{name} ({type_name(head)}).in_channels={value}, but the old backbone gives {expected} at in_index={scales}'
            )
        channels = [new.channels[i] for i in scales]
        head['in_channels'] = channels[0] if isinstance(value, int) else type(value)(channels)
        if head.get('c1_in_channels'):  # DeepLabV3+: the finest feature
            head['c1_in_channels'] = new.channels[0]


def rewrite_feature_strides(model: dict, given: Features) -> None:
    """mmseg's semantic FPN head is told the strides of the features ``given`` to it, behind the neck if there is one."""
    for name, head in decode_heads(model):
        if 'feature_strides' in head:
            head['feature_strides'] = [given.strides[i] for i in _scales(name, head, given)]


def rewrite_classifier(model: dict, old: Features, new: Features) -> None:
    """The head of a classifier, which reads the last feature; one that was pooled in the old backbone is pooled by a neck.

    A backbone that ends with a classifier of its own, as mmpretrain's VGG, leaves its place to a linear head.

    Raises:
        SwapError: The head's channels are not those of the old backbone.
    """
    head = model.get('head')
    if old.strides[-1] is None and model.get('neck') is None:
        model['neck'] = dict(type='GlobalAveragePooling')
    if isinstance(head, dict):
        if type_name(head) == 'ClsHead' and old.strides[-1] is None:  # the classifier is in the backbone: VGG, AlexNet
            head.update(type='LinearClsHead', num_classes=old.channels[-1], in_channels=old.channels[-1])
        if 'in_channels' not in head:
            raise SwapError(
                f'head ({type_name(head)}) has no in_channels: it reads what the old backbone gives ({old}) as it is, and '
                'nothing would map the features of the new one to it'
            )
        if head['in_channels'] != old.channels[-1]:
            raise SwapError(
                f'head ({type_name(head)}).in_channels={head["in_channels"]}, but the old backbone gives {old.channels[-1]}'
            )
        head['in_channels'] = new.channels[-1]
