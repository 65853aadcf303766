"""Panoptic annotations of COCO's form: categories of things and stuff, and segments against the colours of their images."""

import os.path as osp
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from .classes import filter_fault, listed
from .coco_form import category_findings, hashable, is_numbers, read_json, structure_fault
from .findings import Clock, Report, Tally
from .pictures import check_pictures, missing_files
from .sources import Source


def _segment_fault(segment: Any, categories: dict) -> tuple[str, str] | None:
    """The fault that stops mmdet at an item of "segments_info": its kind, and words for it."""
    if not isinstance(segment, dict):
        return 'form', f'"segments_info" holds {str(segment)[:40]!r}: expected objects'
    for key in ('id', 'category_id', 'bbox', 'area'):
        if segment.get(key) is None:
            return key, f'segment {segment.get("id", "without id")} has no {key!r}'
    if hashable(segment['category_id']) not in categories:
        return 'category', f'segment {segment["id"]} has the category_id {segment["category_id"]!r} of no category'
    if not (is_numbers(segment['bbox']) and len(segment['bbox']) == 4):
        return 'bbox', f'segment {segment["id"]} has the bbox {str(segment["bbox"])[:40]}: expected [x, y, width, height]'
    return None


def _order_of_things(report: Report, source: Source, categories: list[dict], place: str, heads: Sequence) -> None:
    """Things have the first labels, and every head as many of them as there are."""
    classes = source.classes or [category['name'] for category in categories]
    things = {category['name']: bool(category['isthing']) for category in categories}
    are_things = [things[name] for name in classes if name in things]
    if are_things != sorted(are_things, reverse=True):
        first = classes[are_things.index(False)]
        report.stop(
            place,
            f'the stuff {first!r} stands before things among the classes: panoptic heads take the first labels for things. '
            'Sort the "categories" and the classes of every data set: things first',
        )
    count = sum(are_things)
    for head, number, stuff in heads:
        if (number, stuff) != (count, len(are_things) - count) and number + stuff == len(are_things):
            report.stop(
                head,
                f'it has {number} classes of things and {stuff} of stuff, {source.place} {count} and '
                f'{len(are_things) - count}: set num_things_classes={count}, num_stuff_classes={len(are_things) - count}',
            )
    for key, value in (('thing_classes', True), ('stuff_classes', False)):
        given = (source.dataset.metainfo or {}).get(key) or ()
        wanted = [name for name in classes if things.get(name) is value]
        if set(given) & set(classes) != set(wanted):
            report.doubt(
                source.place,
                f'metainfo.{key} is {listed(given) or "missing"}, by "isthing" of the file it is {listed(wanted)}: an '
                f'evaluation without ann_file goes by it. Set {key}=({"".join(f"{name!r}, " for name in wanted).rstrip()})',
            )


def _look_at_map(path: str, size: tuple[int, int], segments: list[dict]) -> tuple[str, str, bool] | None:
    """A fault of a segment image: its kind, what it is, and whether it stops."""
    try:
        with Image.open(path) as image:
            array = np.array(image.convert('RGB'), np.int64)
            grey = image.mode in ('L', '1', 'I;16')
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        return 'unreadable', f'{path} cannot be read ({type(error).__name__}): replace it', True
    if array.shape[1::-1] != size:
        return 'size', f'{path} has {array.shape[1]} x {array.shape[0]} px, "images" says {size[0]} x {size[1]}', True
    found = set(np.unique(array @ [1, 256, 65536]).tolist()) - {0}
    known = {segment['id'] for segment in segments if segment['area'] > 0 and min(segment['bbox'][2:]) >= 1}
    if lost := sorted(known - found):
        hint = ': it is a grey image, expected colours of red + 256 green + 65536 blue = id' if grey else ''
        text = f'{path} has no pixel of {len(lost)} of {len(known)} segments, the first has the id {lost[0]}{hint}'
        return 'lost', text, len(lost) == len(known)
    if more := sorted(found - known):
        return 'more', f'{path} has {len(more)} ids of no segment (not learned), the first is {more[0]}', False
    return None


def check_panoptic(report: Report, source: Source, heads: Sequence[tuple[str, int, int]], clock: Clock) -> None:
    """Look at a data set of mmdet's ``CocoPanopticDataset``.

    Args:
        heads: Keys of heads, and the numbers of their thing and stuff classes.
    """
    dataset = source.dataset
    place = f'{source.place}: {dataset.ann_file}'
    with clock.stopped():
        content, fault = read_json(dataset.ann_file)
    if fault := fault or structure_fault(content, annotated=source.training):
        report.stop(place, fault)
        return
    images, annotations, categories = content['images'], content.get('annotations', []), content['categories']
    # a box or mask of its own: an annotation of an object and not of an image
    single = [a for a in annotations if 'segments_info' not in a and ('bbox' in a or 'segmentation' in a)]
    if single and len(single) == len(annotations):
        report.stop(
            place,
            f"it is in COCO's instance form, {len(single)} annotations of an object each: CocoPanopticDataset reads one of an "
            'image, with a list "segments_info" and a segment image. Take the panoptic file of the data set (COCO: '
            "annotations/panoptic_*2017.json with seg='annotations/panoptic_*2017/'), have panopticapi's converters write one, "
            "or learn instances alone: type='CocoDataset', num_stuff_classes=0 in the heads",
        )
        return
    if absent := [category for category in categories if 'isthing' not in category]:
        report.stop(
            place, f'the category {absent[0]["name"]!r} has no "isthing": write 1 for things that are counted, 0 for stuff'
        )
        return
    by_id = {category['id']: category for category in categories}
    sizes = {image['id']: (image['width'], image['height']) for image in images}
    faults, doubts = Tally(), Tally()
    objects: Counter = Counter()
    segments: dict[Any, list[dict]] = {}
    for annotation in annotations:
        number, items = annotation.get('image_id'), annotation.get('segments_info')
        if hashable(number) not in sizes:
            faults.add('image', f'the annotation of {annotation.get("file_name")!r} has the image_id {number!r} of no image')
            continue
        if not isinstance(items, list):
            faults.add('list', f'the annotation of image {number} has no list "segments_info"')
            continue
        wrong = [found for segment in items if (found := _segment_fault(segment, by_id))]
        for kind, text in wrong:
            faults.add(kind, f'image {number}: {text}')
        if not wrong:
            segments.setdefault(number, []).extend(items)
            objects.update(segment['category_id'] for segment in items)
    report.tally(place, faults, 'cases')
    for stops, text in category_findings(categories, source.classes, objects) if source.classes else ():
        report.add(place, stops, text)
    _order_of_things(report, source, categories, place, heads)
    if unread := filter_fault(dataset):
        report.doubt(source.place, unread)
    folder, seen = dataset.data_prefix.get('seg'), ''
    if annotations and not folder:
        report.stop(source.place, f"data_prefix={dict(dataset.data_prefix)} has no folder of segment images: add seg='FOLDER'")
    elif annotations:
        listed_images = [image for image in images if image['id'] in segments]
        maps = [(osp.join(folder, str(image['file_name']).replace('.jpg', '.png')), image['id']) for image in listed_images]
        if missing := missing_files([path for path, _ in maps], 'segment images'):
            report.stop(place, missing)
        sample = clock.sample([pair for pair in maps if osp.isfile(pair[0])])
        faults = Tally()
        for path, number in sample:
            if look := _look_at_map(path, sizes[number], segments[number]):
                (faults if look[2] else doubts).add(look[0], look[1])
        report.tally(source.place, faults, 'images')
        report.tally(source.place, doubts, 'images', stops=False)
        seen = f'{sample.share("segment images")}, '
    root = dataset.data_prefix.get('img') or ''
    pictures = [(osp.join(root, str(image['file_name'])), (image['width'], image['height'])) for image in images]
    seen += check_pictures(report, source, pictures, dataset.ann_file, clock)
    counts = Counter(bool(category['isthing']) for category in categories)
    text = f'{counts[True]} things, {counts[False]} stuff, {len(images)} images, {sum(objects.values())} segments'
    report.row(source.place, source.name, text, seen)
