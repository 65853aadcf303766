"""Annotations of LVIS' form: COCO's, where every category is a class and images say what was not looked for."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from .classes import listed
from .coco import CocoCheck
from .sources import Source

HOST = 'http://images.cocodataset.org/'
SCORED = (('images', ('neg_category_ids', 'not_exhaustive_category_ids')), ('categories', ('frequency',)))


class LvisCheck(CocoCheck):
    """The check of one file.

    Args:
        source: The data set.
        plain: See :class:`CocoCheck`.
        with_url: Names of pictures are those of ``coco_url``, as in LVIS v1.
        scored: An evaluation reads the file.
    """

    def __init__(self, source: Source, plain: bool, with_url: bool, scored: bool) -> None:
        super().__init__(source, plain)
        self.with_url = with_url
        self.lvis_scored = scored

    def prepare(self, content: Any) -> str | None:
        if not isinstance(content, dict) or not isinstance(content.get('images'), list):
            return None
        for image in content['images']:
            if not isinstance(image, dict):
                continue
            if self.with_url:
                if not isinstance(image.get('coco_url'), str):
                    return f'image {image.get("id")} has no "coco_url", where LVIS v1 has the folder and name of its picture'
                image['file_name'] = image['coco_url'].replace(HOST, '')
            elif isinstance(name := image.get('file_name'), str) and name.startswith('COCO'):
                image['file_name'] = name[-16:]
        for part, keys in SCORED if self.lvis_scored else ():
            for item in content.get(part) or ():
                if isinstance(item, dict) and (absent := [key for key in keys if key not in item]):
                    return f'{str(item)[:60]} in "{part}" has no {listed(absent)}, which the evaluation of LVIS reads'
        return None

    def learned(self, categories: list[dict]) -> set:
        return {category['id'] for category in categories}

    def category_findings(self, categories: list[dict], objects: Counter) -> Iterator[tuple[bool, str]]:
        names, classes = [str(category['name']) for category in categories], list(self.classes or [])
        if len(names) != len(classes):
            yield (
                True,
                f'it has {len(names)} categories, the config {len(classes)} classes: mmdet learns every category of LVIS files',
            )
        elif names == classes:
            return
        elif set(names) == set(classes):
            first = next(name for name, other in zip(classes, names, strict=True) if name != other)
            yield (
                True,
                f'its categories stand in another order than the classes, from {first!r} on: write the classes in that order',
            )
        else:
            for name, other in [pair for pair in zip(classes, names, strict=True) if pair[0] != pair[1]][:5]:
                yield False, f'the category {other!r} is called {name!r} by the classes'
