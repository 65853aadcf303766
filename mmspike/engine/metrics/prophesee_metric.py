"""Average precision on recordings of event cameras, printed with its protocol."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from mmspike.datasets.events.boxes import BOX
from mmspike.registry import METRICS
from mmspike.utils.errors import UserError

from .protocols import Protocol, evaluate_boxes, find_protocol


@METRICS.register_module()
class PropheseeMetric(BaseMetric):
    """COCO's average precision of boxes in recordings, by a named protocol; see :mod:`mmspike.engine.metrics.protocols`.

    Labels are the boxes of the files, which the data sets of events hand on as they are (``boxes``, with ``test_mode=True``).

    Args:
        protocol: 'perot' (what RVT and most recurrent papers run), 'toolbox' (Prophesee's evaluator, whose sides are swapped),
            'sfod', 'dagr' or 'none'.
        camera: 'gen1', '1mpx' or 'dsec', whose limits count. None: the data set's.
        diagonal, side, skip, tolerance: Other limits than the protocol's: px, px, us, us.
        every_answer: Detections at windows without labels count too, where they are near a labelled time; else each labelled
            time has the answer of its own window, as RVT scores.
        prefix: Of the figures' names; the protocol's by default.
        kwargs: mmengine's ``BaseMetric``.

    Raises:
        UserError: The protocol has no limits for the camera, labels are missing, or a recording was not seen in order.

    Example:
        >>> from mmspike.engine.metrics import PropheseeMetric
        >>> print(PropheseeMetric(protocol='none').limits())
        none: boxes of every size, all times, detections within 50000 us of a labelled time, labels as they are
    """

    def __init__(
        self,
        protocol: str = 'perot',
        camera: str | None = None,
        diagonal: float | None = None,
        side: float | None = None,
        skip: int | None = None,
        tolerance: int | None = None,
        every_answer: bool = False,
        prefix: str | None = None,
        **kwargs,
    ) -> None:
        super().__init__(prefix=prefix or protocol, **kwargs)
        self.protocol, self.camera, self.every_answer = protocol, camera, every_answer
        given: dict[str, Any] = dict(diagonal=diagonal, side=side, skip=skip, tolerance=tolerance)
        self.given = {key: value for key, value in given.items() if value is not None}

    def limits(self) -> Protocol:
        """The :class:`Protocol` in use, with the limits that were given."""
        camera = self.camera or (self.dataset_meta or {}).get('camera')
        base = 'none' if self.protocol == 'perot' and {'diagonal', 'side', 'skip'} <= set(self.given) else self.protocol
        found = find_protocol(base, camera)
        changed = f'{self.protocol}, changed' if self.given else found.name
        return replace(found, name=changed, **self.given)

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Keep the labels and the detections of a batch."""
        for sample in data_samples:
            if 'boxes' not in sample:
                raise UserError(
                    'a sample has no boxes of its file: PropheseeMetric is for the data sets of events (mmspike.Gen1 and '
                    'others), whose pipeline ends with mmspike.PackEventDetInputs'
                )
            labelled = bool(sample['labelled'])
            found = self._detections(sample) if labelled or self.every_answer else np.empty(0, BOX)
            labels = sample['boxes'] if labelled else np.empty(0, BOX)
            self.results.append((sample['recording'], labels, found))

    @staticmethod
    def _detections(sample: dict) -> np.ndarray:
        instances = sample['pred_instances']
        left, top, right, bottom = instances['bboxes'].cpu().numpy().reshape(-1, 4).T
        found = np.zeros(len(left), BOX)
        found['t'], found['x'], found['y'], found['w'], found['h'] = sample['t'], left, top, right - left, bottom - top
        found['class_id'] = instances['labels'].cpu().numpy()
        found['class_confidence'] = instances['scores'].cpu().numpy()
        found['track_id'] = -1
        return found

    def compute_metrics(self, results: list[tuple]) -> dict[str, float]:
        """The figures, which are logged with protocol, split and numbers."""
        meta = self.dataset_meta or {}
        labels: dict[str, list[np.ndarray]] = defaultdict(list)
        found: dict[str, list[np.ndarray]] = defaultdict(list)
        for recording, there, answers in results:
            labels[recording].append(there)
            found[recording].append(answers)
        protocol = self.limits()
        # windows of a recording may come from several processes
        scores = evaluate_boxes(_in_order(labels), _in_order(found), protocol, meta['classes'], meta['sensor_size'])
        MMLogger.get_current_instance().info(
            f'Protocol {protocol}; split {meta.get("split", "unknown")}: {len(labels)} recordings, {scores.times} labelled '
            f'times, {scores.boxes} boxes, {scores.detections} detections'
        )
        return scores.values


def _in_order(parts: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    joined = {name: np.concatenate(arrays) for name, arrays in parts.items()}
    return {name: boxes[np.argsort(boxes['t'], kind='stable')] for name, boxes in joined.items()}
