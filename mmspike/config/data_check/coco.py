"""A JSON of images and objects in COCO's format against its data set: classes, objects and images that are left, pictures."""

import os.path as osp
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from .classes import filter_fault, listed
from .coco_form import (
    annotation_fault,
    box_fault,
    category_findings,
    hashable,
    is_numbers,
    read_json,
    structure_fault,
    why_left_out,
)
from .findings import Clock, Report, Tally
from .pictures import check_pictures
from .sources import Source
from .stuff import check_stuff

ANNOTATIONS = 50000  # annotations that are looked at of each file


def _words(reasons: Counter) -> str:
    return ', '.join(f'{count} {reason}' for reason, count in reasons.most_common())


def _types(values: Sequence) -> str:
    return '/'.join(sorted({dict(str='text', int='number').get(type(v).__name__, type(v).__name__) for v in values}))


def _as_objects365_v2(content: dict) -> None:
    """Keep the last folder of the names of pictures, and leave three pictures out, as mmdet does."""
    from mmdet.datasets.objects365 import objv2_ignore_list

    for image in content['images']:
        image['file_name'] = osp.join(*image['file_name'].split('/')[-2:])
    lost = {image['id'] for image in content['images'] if image['file_name'] in objv2_ignore_list}
    if lost:
        content['images'] = [image for image in content['images'] if image['id'] not in lost]
        content['annotations'] = [a for a in content['annotations'] if a['image_id'] not in lost]


class CocoCheck:
    """The check of one file.

    Args:
        source: The data set.
        plain: It takes annotations as CocoDataset does; else a subclass may need other keys, and leave out other objects.
        scored: What an evaluation with this file reads: 'bbox', 'segm'.
        stuff: Classes of the model's semantic head, if it has one.
    """

    def __init__(self, source: Source, plain: bool = True, scored: Sequence[str] = (), stuff: int | None = None) -> None:
        self.source = source
        self.stuff = stuff
        self.path = source.dataset.ann_file
        self.classes = source.classes
        loader = source.transform('LoadAnnotations') or {}
        self.masks, self.maps = bool(loader.get('with_mask')), bool(loader.get('with_seg'))
        self.keys = ['id', 'image_id', 'category_id', 'bbox', 'area'] if plain else ['id', 'image_id', 'category_id']
        self.plain = plain
        if scored:
            self.keys.append('iscrowd')
        if plain and self.masks or 'segm' in scored:
            self.keys.append('segmentation')

    def prepare(self, content: Any) -> str | None:
        """Change a file's content to the form of COCO's, as the data set does it; what is wrong with it, or None."""
        reader = type(self.source.dataset).load_data_list.__qualname__.partition('.')[0]
        with suppress(KeyError, TypeError, AttributeError):  # told by structure_fault
            if reader == 'Objects365V1Dataset':
                content['categories'].sort(key=lambda category: category['id'])
            elif reader == 'Objects365V2Dataset':
                _as_objects365_v2(content)
        return None

    def learned(self, categories: list[dict]) -> set:
        """Ids of the categories that are learned."""
        classes = None if self.classes is None else set(self.classes)
        return {category['id'] for category in categories if classes is None or hashable(category['name']) in classes}

    def category_findings(self, categories: list[dict], objects: Counter) -> Iterator[tuple[bool, str]]:
        """See :func:`mmspike.config.data_check.coco_form.category_findings`."""
        return category_findings(categories, self.classes or [], objects)

    def run(self, report: Report, clock: Clock) -> None:
        place = f'{self.source.place}: {self.path}'
        with clock.stopped():
            content, fault = read_json(self.path)
        fault = (
            fault
            or self.prepare(content)
            or structure_fault(content, annotated=self.source.training and self.source.transform('LoadAnnotations') is not None)
        )
        if fault:
            report.stop(place, fault)
            return
        images, annotations, categories = content['images'], content.get('annotations', []), content['categories']
        objects = Counter(hashable(a.get('category_id')) for a in annotations)
        learned = self.learned(categories)
        for stops, text in self.category_findings(categories, objects) if self.classes is not None else ():
            report.add(place, stops, text)
        sizes = {image['id']: (image['height'], image['width']) for image in images}
        sample = clock.sample(annotations, ANNOTATIONS)
        faults = Tally()
        reasons: Counter[str | None] = Counter()
        kept, boxes = 0, Counter[str | None]()
        for annotation in sample:
            if found := annotation_fault(annotation, self.keys, self.masks or 'segmentation' in self.keys, sizes):
                faults.add(*found)
                reasons['that cannot be read'] += 1
                continue
            size = sizes.get(hashable(annotation['image_id']))
            reason = why_left_out(annotation, size, learned, self.masks) if self.plain else None
            reasons[reason] += reason is not None
            kept += reason is None
            if reason is None and self.masks and self.plain:
                boxes[box_fault(annotation)] += 1
        report.tally(place, faults, 'annotations')
        if corners := boxes['corners']:
            text = f'{corners} of {kept} boxes are corners [x1, y1, x2, y2] of their polygons: expected [x, y, width, height]'
            report.add(place, corners > 0.5 * kept, text)
        if beside := boxes['beside']:
            text = f'the polygons of {beside} of {kept} objects lie outside their boxes: are they shares, or of other pictures?'
            report.add(place, beside > 0.5 * kept, text)
        reasons = +reasons
        self._ids(report, place, content)
        left = self._images_left(report, place, content, learned)
        if annotations and not kept and not faults.counts and left:
            text = f'0 of {sample.seen} objects are left to {"learn" if self.source.training else "score"}: {_words(reasons)}'
            report.add(place, self.source.training, text)
        elif (dropped := sum(n for r, n in reasons.items() if r not in ('crowd', 'of no class'))) > 0.1 * sample.seen:
            report.doubt(place, f'{dropped} of {sample.seen} objects are not learned: {_words(reasons)}')
        self._boxes(report, place, annotations[:ANNOTATIONS], sizes)
        if not self.source.training and not annotations:
            report.doubt(place, 'there are no annotations: predictions can be made, but not scored')
        names = Counter(image['file_name'] for image in images)
        if twice := [name for name, count in names.items() if count > 1]:
            report.doubt(place, f'{len(twice)} file names are given more than once in "images", the first is {twice[0]!r}')
        root = self.source.dataset.data_prefix.get('img') or self.source.dataset.data_prefix.get('img_path') or ''
        pictures = [(osp.join(root, str(image['file_name'])), (image['width'], image['height'])) for image in images]
        seen = check_pictures(report, self.source, pictures, self.path, clock)
        if self.maps:
            folder, suffix = self.source.dataset.data_prefix.get('seg') or '', self.source.dataset.seg_map_suffix
            files = [osp.join(folder, str(image['file_name']).rsplit('.', 1)[0] + suffix) for image in images]
            maps = list(zip(files, (size for _, size in pictures), strict=True))
            seen += f', {check_stuff(report, self.source, maps, self.stuff, clock)}'
        counts = f'{left} of {len(images)} images, {kept} of {sample.seen} objects' + (
            f' ({_words(reasons)})' if reasons else ''
        )
        classes = f'{len(self.classes)} classes, ' if self.classes is not None else ''
        report.row(self.source.place, self.source.name, classes + counts, f'{sample.share("annotations")}, {seen}')

    def _ids(self, report: Report, place: str, content: dict) -> None:
        """Ids that belong to nothing: mostly texts on one side and numbers on the other."""
        annotations = content.get('annotations', [])
        numbers = Counter(repr(annotation.get('id')) for annotation in annotations if annotation.get('id') is not None)
        if twice := [number for number, count in numbers.items() if count > 1]:
            report.stop(
                place, f'{len(twice)} annotation ids are given more than once, the first is {twice[0]}: each needs its own'
            )
        for key, one, many in (('image_id', 'image', 'images'), ('category_id', 'category', 'categories')):
            known = {item['id']: None for item in content[many]}
            ids = [annotation[key] for annotation in annotations if annotation.get(key) is not None]
            lost = [number for number in ids if hashable(number) not in known]
            if lost and len(lost) == len(ids):
                report.stop(
                    place,
                    f'no annotation belongs to one of the {many}: the first has {key} {lost[0]!r} ({_types(lost)}), the ids of '
                    f'the {many} are {listed(list(known), 3)} ({_types(list(known))}). Write them alike',
                )
            elif lost:
                report.doubt(place, f'{len(lost)} of {len(ids)} annotations have a {key} of no {one}, the first is {lost[0]!r}')

    def _images_left(self, report: Report, place: str, content: dict, learned: set) -> int:
        """The number of images that are left after the data set's filter, as mmdet filters; an error if it is 0."""
        dataset, images = self.source.dataset, content['images']
        filters = dataset.filter_cfg
        if dataset.test_mode or not filters:
            return len(images)
        if text := filter_fault(dataset):
            report.doubt(self.source.place, text)
        annotations = content.get('annotations', [])
        used = {hashable(a.get('image_id')) for a in annotations if hashable(a.get('category_id')) in learned}
        empty = {image['id'] for image in images if filters.get('filter_empty_gt') and image['id'] not in used}
        least = filters.get('min_size', 0)
        small = {image['id'] for image in images if min(image['width'], image['height']) < least}
        left = len(images) - len(empty | small)
        reasons = [f'{len(empty)} have no object of a class (filter_empty_gt)'] if empty else []
        reasons += [f'{len(small)} are smaller than min_size={least} px'] if small else []
        if not left:
            report.stop(
                place,
                f'0 of {len(images)} images are left after filter_cfg={dict(filters)}: {" and ".join(reasons)}. Correct the '
                'annotations, or the filter of the data set in the config',
            )
        elif left < 0.5 * len(images):
            report.doubt(place, f'{left} of {len(images)} images are left after filter_cfg: {" and ".join(reasons)}')
        return left

    def _boxes(self, report: Report, place: str, annotations: Sequence[dict], sizes: dict) -> None:
        """Boxes of another form than x, y, width, height in pixels."""
        beyond = total = tiny = 0
        for annotation in annotations:
            box, size = annotation.get('bbox'), sizes.get(hashable(annotation.get('image_id')))
            if size is None or not is_numbers(box) or len(box) != 4:
                continue
            total += 1
            beyond += box[0] + box[2] > size[1] + 2 or box[1] + box[3] > size[0] + 2
            tiny += max(box) <= 1
        if total and beyond > 0.2 * total:
            report.doubt(
                place,
                f'{beyond} of {total} boxes reach beyond their image: expected [x, y, width, height]; are they '
                '[x1, y1, x2, y2], or of a picture of another size?',
            )
        if total and tiny > 0.5 * total:
            report.doubt(place, f'{tiny} of {total} boxes have no value above 1: expected pixels, not shares of the image')


def check_scored_file(report: Report, place: str, path: str, scored: Sequence[str], source: Source) -> None:
    """An annotation file that an evaluation scores with, beside that of the data set which it scores."""
    content, fault = read_json(path)
    place = f'{place}: {path}'
    if fault := fault or structure_fault(content):
        report.stop(place, fault)
        return
    keys = CocoCheck(source, scored=scored).keys
    faults = Tally()
    for annotation in content['annotations']:
        if found := annotation_fault(annotation, keys, masks=False, sizes={}):
            faults.add(*found)
    report.tally(place, faults, 'annotations')
    for stops, text in category_findings(content['categories'], source.classes or [], Counter()) if source.classes else ():
        if stops:
            report.stop(place, text)
    own, fault = read_json(source.dataset.ann_file)
    if fault or structure_fault(own, annotated=False):
        return  # said of the data set
    known = {image['id']: osp.basename(image['file_name']) for image in content['images']}
    lost = [image['id'] for image in own['images'] if known.get(image['id']) != osp.basename(image['file_name'])]
    if lost:
        report.stop(
            place,
            f'{len(lost)} of the {len(own["images"])} images of {source.dataset.ann_file} are not in it by id and name, the '
            f'first has the id {lost[0]!r}: the evaluation needs the annotation file of its data set',
        )
