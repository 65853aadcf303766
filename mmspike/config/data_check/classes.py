"""Names and numbers of classes: how they are written in a config, and every head against every data set."""

from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from mmspike.config.config_faults import default_number, resolve_type

# what is not a head of the data set's classes: region proposals know one class, stuff has classes of its own
OTHER_PARTS = (
    'rpn_head', 'semantic_head', 'teacher', 'backbone', 'neck', 'init_cfg', 'test_cfg', 'train_cfg', 'data_preprocessor',
)  # fmt: skip
COUNTS = ('num_classes', 'num_things_classes', 'num_stuff_classes')


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The name that is spelt most alike, whatever its case; None if none is near."""
    lower = {str(other).casefold(): str(other) for other in names}
    found = get_close_matches(str(name).casefold(), list(lower), 1, 0.6)
    return lower[found[0]] if found else None


def suggested(near: str, name: str) -> str:
    """``near``, quoted; letter by letter, too, where that may look like ``name``: composed accents, other alphabets."""
    return repr(near) if f'{near}{name}'.isascii() else f'{near!r} ({ascii(near)}, not {ascii(name)})'


def listed(names: Sequence, most: int = 8) -> str:
    """The first names, quoted."""
    return ', '.join(repr(name) for name in list(names)[:most]) + (f', … ({len(names)})' if len(names) > most else '')


def filter_fault(dataset: Any) -> str | None:
    """Keys of the ``filter_cfg`` of a data set of mmdet that nobody reads, or None. In tests it reads none."""
    if dataset.test_mode or not type(dataset).filter_data.__module__.startswith('mmdet.'):
        return None
    keys = ['filter_empty_gt', 'min_size', *(['bbox_min_size'] if hasattr(dataset, 'bbox_min_size') else [])]
    unread = [key for key in dataset.filter_cfg or {} if key not in keys]
    return f'filter_cfg has {listed(unread)}, which nobody reads: expected {", ".join(keys)}' if unread else None


def spelling_fault(dataset: dict) -> str | None:
    """The fault in the way in which a dataset config gives its classes, or None."""
    metainfo = dataset.get('metainfo')
    if isinstance(metainfo, str):
        return (
            f"metainfo is the text {metainfo!r}: expected dict(classes=('a', 'b')), or dict(classes='FILE') for a text file "
            'with one name a line'
        )
    metainfo = metainfo if isinstance(metainfo, dict) else {}
    if wrong := [key for key in metainfo if key != 'classes' and str(key).lower() in ('classes', 'class', 'class_names')]:
        if 'classes' not in metainfo:
            return f'metainfo has the key {wrong[0]!r}, which nobody reads: write metainfo=dict(classes=(...))'
    for key, classes in (('metainfo.classes', metainfo.get('classes')), ('classes', dataset.get('classes'))):
        if isinstance(classes, str):
            if Path(classes).expanduser().is_file():
                continue
            if len(Path(classes).parts) > 1 or Path(classes).suffix:
                return f'{key} is the file {classes}, which does not exist: give a text file with one name a line, or names'
            return (
                f'{key} is the text {classes!r}, not a list of names: a single class needs a comma behind it, ({classes!r},). '
                f'(A text is the name of a file with one class a line, and there is no file {classes})'
            )
        if isinstance(classes, list | tuple):
            if odd := [name for name in classes if not isinstance(name, str)]:
                return f'{key} holds {odd[0]!r}: expected names, as texts'
            if twice := [name for name, count in Counter(classes).items() if count > 1]:
                return f'{key} has {listed(sorted(twice))} more than once: each class stands there once'
            if not classes:
                return f'{key} is empty: expected the names of the classes'
    return None


def _things_and_stuff(head: dict) -> tuple[int, int] | None:
    """The numbers of thing and stuff classes of a head, given or by default; None if it has none."""
    cls = resolve_type(head.get('type'))
    things, stuff = (head.get(key, default_number(cls, key)) for key in COUNTS[1:])
    return (things, stuff) if isinstance(things, int) and isinstance(stuff, int) else None


def thing_counts(item: Any, path: str = 'model') -> Iterator[tuple[str, int, int]]:
    """Every head with classes of things and of stuff in a model's config: its key, and their numbers."""
    if isinstance(item, list | tuple):
        for number, child in enumerate(item):
            yield from thing_counts(child, f'{path}.{number}')
    elif isinstance(item, dict):
        if 'num_things_classes' in item and (counts := _things_and_stuff(item)) is not None:
            yield path, *counts
        for key, child in item.items():
            yield from thing_counts(child, f'{path}.{key}')


def stuff_count(model: dict) -> int | None:
    """Classes of the head that learns label images beside the objects; None if there is none."""
    for part in (model, model.get('roi_head') or {}):
        head = part.get('semantic_head')
        if isinstance(head, dict) and 'num_things_classes' not in head:
            count = head.get('num_classes', default_number(resolve_type(head.get('type')), 'num_classes'))
            return count if isinstance(count, int) else None
    return None


def class_counts(item: Any, path: str = 'model') -> Iterator[tuple[str, int]]:
    """Every head in a model's config: its key and the number of its classes, things and stuff added up.

    Detectors with a language model take names as texts: the number of their head is that of tokens, and not compared.
    """
    if isinstance(item, dict) and 'language_model' in item:
        return
    if isinstance(item, list | tuple):
        for number, child in enumerate(item):
            yield from class_counts(child, f'{path}.{number}')
    elif isinstance(item, dict):
        if path.rsplit('.', 1)[-1].startswith('loss'):
            return
        if 'num_things_classes' in item or 'num_stuff_classes' in item:
            if (counts := _things_and_stuff(item)) is not None:
                yield f'{path}.num_things_classes + num_stuff_classes', sum(counts)
        elif isinstance(count := item.get('num_classes'), int):
            yield f'{path}.num_classes', count
        elif 'type' in item and path.rsplit('.', 1)[-1] in ('bbox_head', 'mask_head'):
            if (count := default_number(resolve_type(item['type']), 'num_classes')) is not None:
                yield f'{path}.num_classes (by default)', count
        for key, child in item.items():
            if key not in OTHER_PARTS:
                yield from class_counts(child, f'{path}.{key}')


def head_findings(
    heads: Sequence[tuple[str, int]], classes: Sequence[str], place_of_data: str, host: str | None
) -> Iterator[tuple[bool, str, str]]:
    """Heads whose number of classes is not that of a data set: whether it is an error, the head's key, what.

    More classes than the data have are an error in mmdet, whose evaluation has no name for them, and else a doubt.
    """
    for place, count in heads:
        if count == len(classes) or count <= 0:
            continue
        text = f'it is {count}, but {place_of_data} has {len(classes)} classes ({listed(classes)}): set {place}={len(classes)}'
        yield count < len(classes) or host == 'mmdet', place, text


def decode_head_findings(model: dict) -> Iterator[tuple[str, str]]:
    """Heads of mmseg whose parts do not fit each other: their key, and what is wrong."""
    for name in ('decode_head', 'auxiliary_head'):
        given = model.get(name) or []
        for number, head in enumerate(given if isinstance(given, list | tuple) else [given]):
            place = f'model.{name}.{number}' if isinstance(given, list | tuple) else f'model.{name}'
            losses = head.get('loss_decode') or {}
            losses = losses if isinstance(losses, list | tuple) else [losses]
            if head.get('out_channels') == 1 and not any(loss.get('use_sigmoid') for loss in losses):
                yield (
                    place,
                    (
                        f"{place}.out_channels is 1 without use_sigmoid: set loss_decode=dict(type='CrossEntropyLoss', "
                        'use_sigmoid=True), or leave out out_channels'
                    ),
                )
            for loss in losses:
                weights, count = loss.get('class_weight'), head.get('out_channels') or head.get('num_classes')
                if isinstance(weights, list | tuple) and isinstance(count, int) and count > 1 and len(weights) != count:
                    text = f'its class_weight has {len(weights)} values for {count} classes: expected one for each class'
                    yield f'{place}.loss_decode', text


def topk_fault(evaluator: list[dict], heads: Sequence[tuple[str, int]]) -> str | None:
    """The fault of mmpretrain's Accuracy that asks for more of the best classes than there are, or None."""
    counts = [count for place, count in heads if place == 'model.head.num_classes']
    for metric in evaluator:
        if str(metric.get('type')).rsplit('.', 1)[-1] == 'Accuracy' and counts:
            topk = metric.get('topk', 1)
            most = max(topk) if isinstance(topk, list | tuple) else topk
            if most > counts[0]:
                return f'topk={most} needs at least {most} classes, the head has {counts[0]}: set topk=(1,)'
    return None


def type_fault(cls: type, dataset: dict, problem: str) -> str:
    """The reason why an object of a data set's type cannot be made, in words."""
    meta = dataset.get('metainfo') or {}
    classes = meta.get('classes') or dataset.get('classes') or ()
    own = (getattr(cls, 'METAINFO', None) or {}).get('classes') or ()
    if 'is not a subset' in problem and (unknown := [name for name in classes if name not in own]):
        near = nearest(unknown[0], own)
        hint = f': did you mean {suggested(near, unknown[0])}?' if near else f'. It has {listed(own)}'
        return f'the class {unknown[0]!r} is none of {cls.__name__}{hint}'
    if 'palette does not match' in problem:
        return (
            f'metainfo.palette has {len(meta.get("palette") or ())} colours for {len(classes)} classes: expected one for each'
        )
    return f'{cls.__name__} cannot be made of this config: {problem}'
