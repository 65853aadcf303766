"""The form of a COCO file: what mmdet's CocoDataset can read of it, what it leaves out, and its classes."""

import codecs
import json
import math
import os.path as osp
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, TypeGuard

from mmspike.utils.files import stand_in

from .classes import listed, nearest, suggested

KEY_ADVICE = dict(
    id='each annotation needs a number of its own',
    image_id='the "id" of its image',
    category_id='the "id" of one of the "categories"',
    bbox='[x, y, width, height] in pixels',
    area='mmdet leaves out objects without area: write that of the mask, or width x height of the box',
    iscrowd="pycocotools' evaluation reads it: write 0 for a single object",
    segmentation='the pipelines load masks: add polygons, take the annotation out, or train without masks (with_mask=False)',
)


def read_json(path: str) -> tuple[Any, str | None]:
    """The content of a JSON file, or None and what is wrong with it."""
    if osp.getsize(path) == 0:
        return None, 'the file is empty (0 bytes)'
    try:
        with open(path, encoding='utf-8') as file:
            return json.load(file), None
    except json.JSONDecodeError as error:
        known = stand_in(path)
        if error.msg.startswith('Unexpected UTF-8 BOM'):
            known = '. It begins with a byte order mark, which mmdet does not read: write UTF-8 without one'
        where = f'no valid JSON at line {error.lineno}, column {error.colno} ({error.msg})'
        return None, where + (known or ', perhaps cut off while copying')
    except UnicodeDecodeError as error:
        if error.object[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return None, 'it is written in UTF-16, which mmdet does not read: write UTF-8'
        return None, f'no text file ({error.reason} at byte {error.start})'
    except RecursionError:
        return None, 'its lists and objects are nested too deeply'


def structure_fault(content: Any, annotated: bool = True) -> str | None:
    """The fault in the three lists of a COCO file, or None.

    Args:
        annotated: There must be "annotations"; image lists of test sets have none.
    """
    if not isinstance(content, dict):
        return f'the top level is a {type(content).__name__}, expected an object with "images", "annotations", "categories"'
    for key in ('images', 'annotations', 'categories'):
        if key == 'annotations' and key not in content and not annotated:
            continue
        if not isinstance(content.get(key), list):
            return f'"{key}" is missing or no list, expected COCO format (images, annotations, categories)'
        if odd := [item for item in content[key] if not isinstance(item, dict)]:
            form = ' with "id" and "name"' if key == 'categories' else ''
            return f'"{key}" holds {str(odd[0])[:40]!r}, a {type(odd[0]).__name__}: expected objects{form}'
    for key in ('images', 'categories'):
        if not content[key]:
            return f'"{key}" is empty'
    needed = dict(images=('id', 'file_name', 'height', 'width'), categories=('id', 'name'))
    for key, keys in needed.items():
        for item in content[key]:
            if absent := [name for name in keys if item.get(name) is None]:
                name = f' (id {item["id"]})' if 'id' in item else ''
                return f'{str(item)[:60]} in "{key}"{name} has no {listed(absent)}: expected {", ".join(keys)}'
    if odd := [category for category in content['categories'] if not isinstance(category['name'], str)]:
        return f'"categories" has the name {odd[0]["name"]!r} (id {odd[0]["id"]}): expected a text, as classes are'
    for image in content['images']:
        if not all(isinstance(image[key], int | float) and image[key] > 0 for key in ('height', 'width')):
            return (
                f'image {image["id"]} has height {image["height"]!r} and width {image["width"]!r}: expected pixels, as numbers'
            )
    for key in ('images', 'categories'):
        if odd := [item['id'] for item in content[key] if not isinstance(item['id'], str | int)]:
            return f'"{key}" has the id {odd[0]!r}: expected a number'
        ids = Counter(repr(item['id']) for item in content[key])
        if twice := [number for number, count in ids.items() if count > 1]:
            return f'{len(twice)} ids of "{key}" are given more than once, the first is {twice[0]}: each needs its own'
    return None


def category_findings(categories: Sequence[dict], classes: Sequence[str], objects: Counter) -> Iterator[tuple[bool, str]]:
    """Differences between the classes of the config and the categories of the JSON: each an error or not, and its text.

    Args:
        objects: Number of objects of each category id.
    """
    names = [str(category['name']) for category in categories]
    there, wanted = Counter(names), set(classes)
    unknown = [name for name in classes if name not in there]
    if len(unknown) > 3:
        alike = list(dict.fromkeys(other for name in unknown if (other := nearest(name, names))))
        hint = f' (alike: {listed(alike)})' if alike else ''
        text = (
            f'{len(unknown)} of the {len(classes)} classes are no category of the file: {listed(unknown)}. Its categories are '
            f'{listed(names)}{hint}: set metainfo=dict(classes=(…)) of every data set to them, in their order'
        )
        yield True, text
    else:
        for name in unknown:
            near = nearest(name, [other for other in names if other not in wanted])
            yield (
                True,
                (
                    f'the class {name!r} of the config is no category of the file'
                    + (f': did you mean {suggested(near, name)}?' if near else '.')
                    + f' Its categories are {listed(names)}, the classes are {listed(classes)}: write them alike'
                ),
            )
    if twice := [name for name in classes if there[name] > 1]:
        ids = [category['id'] for category in categories if category['name'] == twice[0]]
        yield True, f'the category {twice[0]!r} is there more than once (ids {ids}): merge them into one'
    order = [name for name in names if name in wanted]
    if not unknown and not twice and order != list(classes):
        yield (
            True,
            (
                f'the classes of the config are {listed(classes)}, but in the "categories" of the file they stand in the order '
                f'{listed(order, 100)}. mmdet numbers labels in the order of the file, so that every object would be called by '
                f'the wrong name. Write classes=({", ".join(map(repr, order))},) in every data set of the config (palettes and '
                'class weights likewise), or sort the "categories"'
            ),
        )
    nobody = [category for category in categories if hashable(category['name']) not in wanted]
    if nobody and len(unknown) < len(classes):
        counts = [f'{category["name"]!r} ({objects[category["id"]]} objects)' for category in nobody]
        yield (
            False,
            f'no class learns {len(nobody)} of {len(names)} categories: {", ".join(counts[:8])}'
            + (', …' if len(counts) > 8 else ''),
        )


def is_numbers(values: Any) -> TypeGuard[list[float]]:
    return isinstance(values, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def mask_fault(mask: Any, size: tuple[int, int]) -> str | None:
    """The fault in a "segmentation", or None if mmdet can read it (or leaves it out by itself).

    Args:
        size: Height and width of the image.
    """
    if isinstance(mask, dict):
        counts, shape = mask.get('counts'), mask.get('size')
        if counts is None or shape is None:
            return f'run lengths need "counts" and "size", got {listed(list(mask))}'
        if not is_numbers(shape) or tuple(shape) != size:
            return f'run lengths of size {shape}, but the image has [height, width] = {list(size)}'
        if isinstance(counts, list) and (not is_numbers(counts) or sum(counts) != size[0] * size[1]):
            total = sum(counts) if is_numbers(counts) else 'no number'
            return f'the run lengths add up to {total}, expected height x width = {size[0] * size[1]}'
        return None if isinstance(counts, list | str) else f'"counts" is a {type(counts).__name__}, expected a list or text'
    if not isinstance(mask, list):
        return f'segmentation is a {type(mask).__name__}, expected polygons or run lengths'
    if is_numbers(mask):
        start = str(mask[:4])[:-1]
        return f'segmentation is one flat list {start}, …], expected a list of polygons: put it into another list, [[x, y, …]]'
    for polygon in mask:
        if isinstance(polygon, list) and any(isinstance(point, list | dict) for point in polygon):
            return 'points of a polygon are pairs [x, y], expected one list of numbers [x1, y1, x2, y2, …]'
        if not is_numbers(polygon) or not all(map(math.isfinite, polygon)):
            return f'a polygon is {str(polygon)[:40]}, expected a list of numbers [x1, y1, x2, y2, …]'
    if len(mask) >= 3 and all(len(polygon) == 2 for polygon in mask):
        return 'points of a polygon are pairs [x, y], expected one list of numbers [[x1, y1, x2, y2, …]]'
    return None


def annotation_fault(annotation: dict, keys: Sequence[str], masks: bool, sizes: dict) -> tuple[str, str] | None:
    """The fault that stops mmdet at an annotation: its kind, and a text; or None.

    Args:
        keys: What every annotation needs.
        masks: Masks are read.
        sizes: Height and width of each image, by its id.
    """
    name = f'annotation {annotation.get("id", "without id")}'
    if annotation.get('ignore'):
        keys = [key for key in keys if key in ('id', 'image_id', 'category_id')]
    for key in keys:
        if annotation.get(key) is None or (key == 'segmentation' and not annotation[key]):
            wrong = 'no mask' if key == 'segmentation' else f'no {key!r}'
            return key, f'{name} has {wrong}: {KEY_ADVICE[key]}'
    if 'bbox' in keys and not (is_numbers(annotation['bbox']) and len(annotation['bbox']) == 4):
        return 'box', f'{name} has the bbox {str(annotation["bbox"])[:40]}: expected {KEY_ADVICE["bbox"]}'
    if 'area' in keys and not (is_numbers([annotation['area']]) and math.isfinite(annotation['area'])):
        return 'area', f'{name} has the area {annotation["area"]!r}: expected a number'
    if isinstance(annotation.get('iscrowd'), str):
        return 'crowd', f'{name} has iscrowd {annotation["iscrowd"]!r}, a text, which counts as 1: write the number 0 or 1'
    size = sizes.get(hashable(annotation.get('image_id')))
    if masks and size is not None and 'segmentation' in keys and (fault := mask_fault(annotation['segmentation'], size)):
        return fault.split(' ')[0], f'{name} cannot be read: {fault}'
    return None


def why_left_out(annotation: dict, size: tuple[int, int] | None, learned: set, masks: bool) -> str | None:
    """The reason why mmdet does not learn an annotation that is well-formed; None if it does."""
    if size is None:
        return 'of no image'
    if hashable(annotation.get('category_id')) not in learned:
        return 'of no class'
    if annotation.get('ignore'):
        return 'marked "ignore"'
    x, y, w, h = annotation['bbox']
    if not all(map(math.isfinite, (x, y, w, h))):
        return 'with NaN in the box'
    height, width = size
    if max(0, min(x + w, width) - max(x, 0)) * max(0, min(y + h, height) - max(y, 0)) == 0:
        return 'outside their image'
    if annotation['area'] <= 0 or w < 1 or h < 1:
        return 'smaller than a pixel'
    if annotation.get('iscrowd'):
        return 'crowd'
    mask = annotation.get('segmentation')
    if masks and isinstance(mask, list) and not any(len(polygon) % 2 == 0 and len(polygon) >= 6 for polygon in mask):
        return 'without a polygon of three points'
    return None


def box_fault(annotation: dict) -> str | None:
    """'beside' if the polygons of an annotation lie wholly outside its box, 'corners' if that is [x1, y1, x2, y2] of them."""
    mask, (x, y, w, h) = annotation.get('segmentation'), annotation['bbox']
    if not isinstance(mask, list) or not mask:
        return None
    columns, rows = ([value for polygon in mask for value in polygon[start::2]] for start in (0, 1))
    if not columns or not rows:
        return None
    right, bottom = max(columns), max(rows)
    if right < x - 1 or min(columns) > x + w + 1 or bottom < y - 1 or min(rows) > y + h + 1:
        return 'beside'
    at_corners, in_size = (max(abs(right - a), abs(bottom - b)) <= 1.5 for a, b in ((w, h), (x + w, y + h)))
    return 'corners' if at_corners and not in_size else None


def hashable(value: Any) -> Any:
    """``value`` as a key: lists and dicts, which no id may be, as text."""
    return value if isinstance(value, str | int | float | None) else repr(value)
