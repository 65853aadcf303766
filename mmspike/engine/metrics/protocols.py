"""Average precision of boxes in recordings of event cameras, by the protocols that published figures are of.

They differ in which boxes count, which changes the same detections' figure by several points. Sources:

- perot: the supplement of Perot et al., NeurIPS 2020 (arXiv 2009.13436), as RVT's evaluation has it
  (github.com/uzh-rpg/RVT, ``utils/evaluation/prophesee``), with boxes cut at the sensor as its preparation does;
- toolbox: ``psee_evaluator.py`` of github.com/prophesee-ai/prophesee-automotive-dataset-toolbox, whose smallest sides of GEN1
  and 1 Mpx are in each other's place (its issue 19), and which skips 0.1 s;
- sfod: SFOD (CVPR 2024) and SpikSSD: the toolbox's limits of GEN1 without a limit of time;
- dagr: DAGr (Nature 2024) on DSEC-Det, there in pixels of half the resolution: sides larger than 10, diagonals than 15;
- none: every box counts, as in SpikeYOLO (ECCV 2024) and, by default, EAS-SNN (ECCV 2024).
"""

import contextlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mmspike.datasets.events.boxes import BOX, cut_boxes, large_boxes
from mmspike.utils.errors import UserError


@dataclass(frozen=True)
class Protocol:
    """Which boxes count, of labels and of detections alike.

    Attributes:
        name: What it is called.
        diagonal, side: Smallest diagonal and side in px that count.
        skip: Boxes up to this time of a recording, in us, do not count; None: all do.
        tolerance: Detections up to so many us before or after a labelled time belong to it.
        cut: Labels are cut at the sensor first.
        strict: Boxes of just ``diagonal`` or ``side`` do not count.
    """

    name: str
    diagonal: float = 0.0
    side: float = 0.0
    skip: int | None = None
    tolerance: int = 50_000
    cut: bool = False
    strict: bool = False

    def __str__(self) -> str:
        above = '>' if self.strict else '>='
        sizes = f'diagonal {above} {self.diagonal:g} px and sides {above} {self.side:g} px'
        limits = [
            sizes if self.diagonal or self.side else 'boxes of every size',
            f't > {self.skip} us' if self.skip is not None else 'all times',
            f'detections within {self.tolerance} us of a labelled time',
            'labels cut at the sensor' if self.cut else 'labels as they are',
        ]
        return f'{self.name}: {", ".join(limits)}'

    def counting(self, boxes: np.ndarray) -> np.ndarray:
        """``BOX`` that count, of a recording whose time begins with 0."""
        counts = large_boxes(boxes, self.diagonal, self.side, self.strict)
        if self.skip is not None:
            counts &= boxes['t'] > self.skip
        return boxes[counts]


#: (protocol, camera) -> its limits at the camera's full resolution
PROTOCOLS = {
    ('perot', 'gen1'): Protocol('perot', 30, 10, 500_000, cut=True),
    ('perot', '1mpx'): Protocol('perot', 60, 20, 500_000, cut=True),
    ('toolbox', 'gen1'): Protocol('toolbox', 30, 20, 100_000),
    ('toolbox', '1mpx'): Protocol('toolbox', 60, 10, 100_000),
    ('sfod', 'gen1'): Protocol('sfod', 30, 20),
    ('dagr', 'dsec'): Protocol('dagr', 30, 20, cut=True, strict=True),
}
NAMES = ('perot', 'toolbox', 'sfod', 'dagr', 'none')


def find_protocol(name: str, camera: str | None) -> Protocol:
    """The protocol ``name`` for a camera ('gen1', '1mpx', 'dsec').

    Raises:
        UserError: There is no such protocol, or it has no limits for the camera.
    """
    if name == 'none':
        return Protocol('none')
    if name not in NAMES:
        raise UserError(f'protocol={name!r}: expected one of {", ".join(NAMES)}')
    if camera is None or (name, camera) not in PROTOCOLS:
        cameras = ', '.join(known for protocol, known in PROTOCOLS if protocol == name)
        raise UserError(
            f"protocol {name!r} has limits for the cameras {cameras}, not for {camera!r}: choose protocol='none', or give "
            'diagonal, side and skip'
        )
    return PROTOCOLS[name, camera]


def check_ascending(boxes: np.ndarray, what: str) -> None:
    """Refuse boxes that are not in order of time.

    Raises:
        UserError: Some time falls.
    """
    falls = np.flatnonzero(np.diff(boxes['t']) < 0)
    if len(falls):
        i = int(falls[0]) + 1
        raise UserError(f'{what} are not in order of time: {boxes["t"][i]} us follows {boxes["t"][i - 1]} us. Sort them')


def match_times(labels: np.ndarray, found: np.ndarray, tolerance: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each labelled time its boxes, and the detections within ``tolerance`` us of it; ``BOX`` in order of time."""
    times = np.unique(labels['t'])
    first, last = (np.searchsorted(labels['t'], times, side) for side in ('left', 'right'))
    begin = np.searchsorted(found['t'], times - tolerance, 'left')
    end = np.searchsorted(found['t'], times + tolerance, 'right')
    return [(labels[a:b], found[c:d]) for a, b, c, d in zip(first, last, begin, end, strict=True)]


@dataclass(frozen=True)
class Scores:
    """COCO's average precision, and what it was taken over.

    Attributes:
        values: AP, AP50, AP75, APs, APm, APl; nan where no label is of that size.
        times: Labelled times that count.
        boxes: Labels that count.
        detections: Detections at those times that count.
    """

    values: dict[str, float]
    times: int
    boxes: int
    detections: int


METRICS = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')


def evaluate_boxes(
    labels: Mapping[str, np.ndarray],
    found: Mapping[str, np.ndarray],
    protocol: Protocol,
    classes: Sequence[str],
    sensor_size: tuple[int, int],
) -> Scores:
    """Average precision of detections in recordings.

    Args:
        labels: By recording, boxes of an array of ``BOX`` in order of time.
        found: By recording, detections alike, with ``class_confidence``; a recording without any may be missing.
        protocol: What counts.
        classes: Names of the classes.
        sensor_size: Height and width in px.

    Raises:
        UserError: Times are not in order, or no label counts.

    Example:
        >>> import numpy as np
        >>> from mmspike.datasets.events.boxes import BOX
        >>> from mmspike.engine.metrics import PROTOCOLS, evaluate_boxes
        >>> boxes = np.array([(600_000, 10, 10, 40, 30, 0, 0, 1.0)], BOX)
        >>> scores = evaluate_boxes({'a': boxes}, {'a': boxes}, PROTOCOLS['perot', 'gen1'], ['car'], (240, 304))
        >>> round(scores.values['AP'], 6), scores.times
        (1.0, 1)
    """
    images: list[tuple[np.ndarray, np.ndarray]] = []
    for recording, there in labels.items():
        answers = found.get(recording, np.empty(0, BOX))
        check_ascending(there, f'labels of {recording}')
        check_ascending(answers, f'detections in {recording}')
        there = cut_boxes(there, sensor_size) if protocol.cut else there
        images += match_times(protocol.counting(there), protocol.counting(answers), protocol.tolerance)
    if not images:
        total = sum(map(len, labels.values()))
        raise UserError(f'none of {total} labels in {len(labels)} recordings counts by the protocol {protocol}')
    number, answered = (sum(len(pair[i]) for pair in images) for i in (0, 1))
    return Scores(_coco(images, classes, sensor_size), len(images), number, answered)


def _coco(
    images: Sequence[tuple[np.ndarray, np.ndarray]], classes: Sequence[str], sensor_size: tuple[int, int]
) -> dict[str, float]:
    """COCO's figures over pairs of labels and detections, 100 of them at most an image."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    annotations: list[dict] = []
    results: list[dict] = []
    for number, (labels, found) in enumerate(images, start=1):
        for box in labels:
            annotations.append(
                _entry(number, box) | dict(id=len(annotations) + 1, area=float(box['w']) * float(box['h']), iscrowd=0)
            )
        results += [_entry(number, box) | dict(score=float(box['class_confidence'])) for box in found]
    if not results:  # which pycocotools does not take
        return dict.fromkeys(METRICS, 0.0)
    height, width = sensor_size
    dataset = dict(
        images=[dict(id=i, height=height, width=width) for i in range(1, len(images) + 1)],
        annotations=annotations,
        categories=[dict(id=i, name=name) for i, name in enumerate(classes, start=1)],
        info={},
    )
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a page
        truth = COCO()
        truth.dataset = dataset
        truth.createIndex()
        evaluation = COCOeval(truth, truth.loadRes(results), 'bbox')
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = (float(value) for value in evaluation.stats[: len(METRICS)])
    return {name: value if value >= 0 else float('nan') for name, value in zip(METRICS, values, strict=True)}


def _entry(image: int, box: np.void) -> dict:
    return dict(image_id=image, category_id=int(box['class_id']) + 1, bbox=[float(box[name]) for name in 'xywh'])
