"""Runs whole exported networks with numpy around the engine: boxes, masks, label maps and classes of images.

It needs numpy and onnxruntime, neither torch nor mmspike: copy this file beside the ONNX files.

    import cv2
    from runner import Runner

    predict = Runner('model.onnx')
    result = predict(cv2.imread('image.png'))  # dict(scores=…, labels=…, bboxes=…, masks=…)

What a file needs beside its graph (normalisation, anchors, thresholds) is in its metadata.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

#: a file ready to run: name -> array in, name -> array out
Session = Callable[[Mapping[str, np.ndarray]], Mapping[str, np.ndarray]]
KEY = 'mmspike'  # of the description among the file's metadata


def open_in_onnxruntime(path: str) -> Session:
    """A file in onnxruntime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    names = [o.name for o in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, dict(inputs)), strict=True))


class Runner:
    """Predictions of an exported classifier, segmentor or detector.

    Args:
        path: ONNX file, as ``deploy.py --onnx`` writes it; those of the heads of a two-stage detector lie beside it.
        open_file: Opens a file in an engine, by default in onnxruntime.

    Attributes:
        about: What the file says of itself: ``task``, ``size``, ``classes``, mean and std, anchors, thresholds.

    Raises:
        ValueError: The file has no description, or is none of ONNX.
    """

    def __init__(self, path: str | Path, open_file: Callable[[str], Session] = open_in_onnxruntime) -> None:
        path = Path(path)
        self.about = read_description(path)
        self.network = open_file(str(path))
        heads = self.about.get('regions', {}).get('files', {})
        self.heads = {name: open_file(str(path.with_name(file))) for name, file in heads.items()}

    def __call__(self, image: np.ndarray, original: Sequence[int] | None = None) -> dict:
        """The prediction of one image.

        Args:
            image: [H, W, C], uint8 in OpenCV's order of channels, as the config's test pipeline leaves it: its ``Resize`` is
                left to the caller. Event frames are [T, C, H, W].
            original: Height and width before the image was resized, in which boxes, masks and labels are wanted.

        Returns:
            Detection: ``scores``, ``labels``, ``bboxes`` [N, 4] (x1, y1, x2, y2) and ``masks`` [N, H, W] of bool. Segmentation:
            ``labels`` [H, W], ``logits`` [classes, H, W]. Classification: ``scores`` [classes], ``label``.
        """
        steps = self.about['steps']
        height, width = image.shape[-2:] if steps else image.shape[:2]
        original = tuple(original or (height, width))
        x = image.astype(np.float32) if steps else self.prepare(image)
        about = dict(shape=(height, width), original=original, scale=(width / original[1], height / original[0]))
        about |= dict(padding=(0, x.shape[-1] - width, 0, x.shape[-2] - height))
        return self.predict(x[:, None] if steps else x[None], [about])[0]

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """Normalised and padded at the right and below: [H, W, C] -> float32 [C, H', W']."""
        x = np.atleast_3d(image).transpose(2, 0, 1).astype(np.float32)
        self._check_channels(len(x))
        if self.about['swap_channels'] and len(x) == 3:
            x = x[::-1]
        if self.about['mean'] is not None:
            mean, std = (np.array(self.about[name], np.float32)[:, None, None] for name in ('mean', 'std'))
            x = (x - mean) / std
        rest = [-side % self.about['divisor'] for side in x.shape[1:]]
        return np.pad(x, ((0, 0), (0, rest[0]), (0, rest[1])), constant_values=self.about['pad_value'])

    def predict(self, inputs: np.ndarray, images: Sequence[Mapping]) -> list[dict]:
        """Predictions of a batch.

        Args:
            inputs: What :meth:`prepare` gives, [B, C, H, W]; event frames [T, B, C, H, W].
            images: Of each image ``shape`` (height, width without padding), ``original`` (before it was resized); for
                detection ``scale`` (x, y), the factors of that; for segmentation ``padding`` (left, right, top, bottom).
        """
        tasks = dict(classification=self._classify, segmentation=self._segment, detection=self._detect)
        return tasks[self.about['task']](inputs, images)

    def _check_channels(self, channels: int) -> None:
        if channels != self.about['channels']:
            raise ValueError(f'the image has {channels} channels, the file takes {self.about["channels"]}')

    def _run(self, inputs: np.ndarray) -> Mapping[str, np.ndarray]:
        """Outputs of the network; ValueError if the file takes inputs of another size."""
        (height, width), steps = inputs.shape[-2:], self.about['steps']
        if steps and (inputs.ndim != 5 or len(inputs) != steps):
            raise ValueError(f'the file takes event frames [T, B, C, H, W] with T = {steps}, got {list(inputs.shape)}')
        self._check_channels(inputs.shape[-3])
        size, multiple = self.about['size'], self.about['multiple']
        if size is not None and [height, width] != list(size):
            what = 'windows of the image have' if 'window' in self.about else 'the image has, behind the preprocessor,'
            raise ValueError(
                f'{what} {height} x {width} pixels (height, width), the file takes {size[0]} x {size[1]}: resize the image, or '
                f'export the network with --shape {height} {width} or --any-size'
            )
        if size is None and (height % multiple or width % multiple):
            raise ValueError(
                f'the network gets an image of {height} x {width}, the file takes multiples of {multiple}: pad or resize it'
            )
        return self.network(dict(inputs=np.ascontiguousarray(inputs)))

    def _classify(self, inputs: np.ndarray, images: Sequence[Mapping]) -> list[dict]:
        scores = softmax(self._run(inputs)['logits'])
        return [dict(scores=s, label=int(s.argmax())) for s in scores]

    def _segment(self, inputs: np.ndarray, images: Sequence[Mapping]) -> list[dict]:
        logits = self._windows(inputs) if 'window' in self.about else self._run(inputs)['logits']
        results = []
        for one, image in zip(logits, images, strict=True):
            left, right, top, bottom = image.get('padding', (0, 0, 0, 0))
            one = one[:, top : one.shape[1] - bottom, left : one.shape[2] - right]
            one = resize(one, image['original'], self.about['align_corners'])
            if len(one) == 1:
                one = sigmoid(one)
                labels = (one[0] > self.about['threshold']).astype(np.int64)
            else:
                labels = one.argmax(0)
            results.append(dict(labels=labels, logits=one))
        return results

    def _windows(self, inputs: np.ndarray) -> np.ndarray:
        """Logits [B, classes, H, W] of windows that overlap, averaged."""
        window, stride = self.about['window'], self.about['stride']
        height, width = inputs.shape[-2:]
        total, count = np.zeros(0, np.float32), np.zeros((height, width), np.float32)
        sides = zip((height, width), window, stride, strict=True)
        starts = [range(0, max(n - w + s - 1, 0) // s * s + 1, s) for n, w, s in sides]
        for y in starts[0]:
            for x in starts[1]:
                bottom, right = min(y + window[0], height), min(x + window[1], width)
                here = np.s_[..., max(bottom - window[0], 0) : bottom, max(right - window[1], 0) : right]
                logits = self._run(inputs[here])['logits']
                if not total.size:
                    total = np.zeros((*logits.shape[:2], height, width), np.float32)
                total[here] += logits
                count[here] += 1
        return total / count

    def _detect(self, inputs: np.ndarray, images: Sequence[Mapping]) -> list[dict]:
        out = self._run(inputs)
        scales = range(len(self.about['dense']['anchors']))
        regions, results = self.about.get('regions'), []
        features = [value for name, value in out.items() if name.startswith('features_')]
        for b, image in enumerate(images):
            maps = [(out[f'scores_{i}'][b], out[f'deltas_{i}'][b]) for i in scales]
            result = dense_boxes(maps, self.about['dense'], image, rescale=regions is None)
            if regions is not None:  # [B, C, H, W], or with time steps [T, B, C, H, W] -> [1, C, H, W] or [T, C, H, W]
                of_image = [f[:, b] if f.ndim == 5 else f[b : b + 1] for f in features]
                result = self._regions(of_image, result['bboxes'], image)
            results.append(result)
        return results

    def _regions(self, features: Sequence[np.ndarray], boxes: np.ndarray, image: Mapping) -> dict:
        cfg = self.about['regions']
        scale = np.array([*image['scale'], *image['scale']], np.float32)
        if not len(boxes):
            found = dict(bboxes=boxes, scores=np.zeros(0, np.float32), labels=np.zeros(0, np.int64))
        else:
            out = self.heads['box'](dict(regions=self._pool(features, boxes, cfg['box'])))
            scores, deltas = softmax(out['scores'])[:, :-1], out['deltas']
            classes = scores.shape[1]
            per_class = decode(boxes.repeat(deltas.shape[1] // 4, 0), deltas.reshape(-1, 4), cfg['coder'], image['shape'])
            per_class = np.broadcast_to(per_class.reshape(len(boxes), -1, 4), (len(boxes), classes, 4))
            per_class = per_class if 'mask' in self.heads else per_class / scale
            chosen = scores > cfg['score_thr']
            labels = np.broadcast_to(np.arange(classes), scores.shape)[chosen]
            found = dict(bboxes=per_class[chosen], scores=scores[chosen], labels=labels)
            keep = nms(found['bboxes'], found['scores'], labels, cfg['iou'], cfg['class_agnostic'])[: cfg['most']]
            found = {name: values[keep] for name, values in found.items()}
        if 'mask' in self.heads:
            boxes, found['bboxes'] = found['bboxes'], found['bboxes'] / scale
            found['masks'] = np.zeros((len(boxes), *image['original']), bool)
            if len(boxes):
                logits = self.heads['mask'](dict(regions=self._pool(features, boxes, cfg['mask'])))['masks']
                chosen = logits[np.arange(len(boxes)), found['labels'] if logits.shape[1] > 1 else 0]
                for target, mask, box in zip(found['masks'], sigmoid(chosen), found['bboxes'], strict=True):
                    paste(target, mask, box, cfg['mask_thr'])
        return found

    def _pool(self, features: Sequence[np.ndarray], boxes: np.ndarray, cfg: Mapping) -> np.ndarray:
        """Features under boxes [N, 4]: [N, C, h, w], or [T, N, C, h, w] of a head with time steps."""
        features = features[: len(cfg['strides'])]
        size = np.sqrt((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
        level = np.floor(np.log2(size / np.float32(cfg['finest']) + np.float32(1e-6))).clip(0, len(features) - 1)
        steps, channels = features[0].shape[:2]
        out = np.zeros((steps, len(boxes), channels, *cfg['size']), np.float32)
        for i, (feature, stride) in enumerate(zip(features, cfg['strides'], strict=True)):
            chosen = np.nonzero(level == i)[0]
            out[:, chosen] = roi_align(feature, boxes[chosen], 1 / stride, cfg['size'], cfg['samples'], cfg['aligned'])
        return out if cfg['time'] else out[0]


def read_description(path: str | Path) -> dict:
    """The description that ``deploy.py`` wrote into the metadata of an ONNX file.

    Raises:
        ValueError: The file has none, or is no ONNX file.
    """
    try:
        content = memoryview(Path(path).read_bytes())
        for field, value in _fields(content):
            if field == 14:  # metadata_props of ModelProto: key 1, value 2
                entry = dict(_fields(value))
                if bytes(entry[1]) == KEY.encode():
                    return json.loads(bytes(entry[2]))
    except (IndexError, KeyError, UnicodeDecodeError) as error:
        raise ValueError(f'{path} is no ONNX file') from error
    raise ValueError(f'{path} does not describe a whole network: write it with tools/deployment/deploy.py --onnx')


def _fields(message: memoryview) -> list[tuple[int, memoryview]]:
    """Numbers and contents of the fields of a protobuf message that have a length."""
    found, at = [], 0
    while at < len(message):
        tag, at = _number(message, at)
        if tag & 7 == 2:
            length, at = _number(message, at)
            if at + length > len(message):
                raise IndexError
            found.append((tag >> 3, message[at : at + length]))
            at += length
        elif tag & 7 == 0:
            _, at = _number(message, at)
        else:
            at += {1: 8, 5: 4}[tag & 7]
    return found


def _number(message: memoryview, at: int) -> tuple[int, int]:
    """The number that begins at a byte, seven bits a byte, and the place behind it."""
    value = shift = 0
    while message[at] > 127:
        value |= (message[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return value | message[at] << shift, at + 1


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(x, -80, 80)))


def softmax(x: np.ndarray) -> np.ndarray:
    return (e := np.exp(x - x.max(-1, keepdims=True))) / e.sum(-1, keepdims=True)


def dense_boxes(maps: Sequence[tuple[np.ndarray, np.ndarray]], cfg: Mapping, image: Mapping, rescale: bool) -> dict:
    """Boxes of a head with anchors or points on every pixel: scores [A classes, H, W] and deltas [4 A, H, W] of each level."""
    found: list[list[np.ndarray]] = [[], [], [], [], []]
    for level, (scores, deltas) in enumerate(maps):
        height, width = scores.shape[1:]
        base, stride = np.float32(cfg['anchors'][level]), cfg['strides'][level]
        y, x = np.mgrid[:height, :width]
        shifts = np.stack([x * stride[0], y * stride[1]] * 2, -1).astype(np.float32)
        anchors = (shifts[:, :, None] + base).reshape(-1, 4)
        scores = scores.transpose(1, 2, 0).reshape(len(anchors), -1)
        scores = sigmoid(scores) if cfg['sigmoid'] else softmax(scores)[:, :-1]
        deltas = deltas.transpose(1, 2, 0).reshape(-1, 4)
        which, labels = np.nonzero(scores > cfg['score_thr'])
        best = scores[which, labels]
        order = np.argsort(-best, kind='stable')[: cfg['nms_pre'] if cfg['nms_pre'] > 0 else None]
        which, labels = which[order], labels[order]
        chosen = best[order], labels, np.full(len(order), level), anchors[which], deltas[which]
        for values, more in zip(found, chosen, strict=True):
            values.append(more)
    scores, labels, scales, anchors, deltas = (np.concatenate(values) for values in found)
    boxes = decode(anchors, deltas, cfg['coder'], image['shape'])
    if rescale:
        boxes = boxes / np.array([*image['scale'], *image['scale']], np.float32)
    if cfg['smallest'] >= 0:
        large = ((boxes[:, 2:] - boxes[:, :2]) > cfg['smallest']).all(1)
        scores, labels, scales, boxes = scores[large], labels[large], scales[large], boxes[large]
    groups = scales if cfg['nms_by_level'] else labels
    keep = nms(boxes, scores, groups, cfg['iou'], cfg['class_agnostic'])[: cfg['most']]
    return dict(scores=scores[keep], labels=labels[keep], bboxes=boxes[keep])


def decode(anchors: np.ndarray, deltas: np.ndarray, cfg: Mapping, shape: Sequence[int]) -> np.ndarray:
    """Boxes [N, 4] within an image of ``shape``, of shifts of centres and logarithms of sizes, or of distances of sides."""
    if 'distances' in cfg:
        boxes = anchors + deltas * np.array([-1, -1, 1, 1], np.float32)
    else:
        deltas = deltas * np.float32(cfg['stds']) + np.float32(cfg['means'])
        largest = np.float32(abs(np.log(cfg['ratio'])))
        centre, size = (anchors[:, :2] + anchors[:, 2:]) * np.float32(0.5), anchors[:, 2:] - anchors[:, :2]
        shift, growth = size * deltas[:, :2], deltas[:, 2:]
        growth = growth.clip(-largest if cfg['shift'] is None else None, largest)
        if cfg['shift'] is not None:
            shift = shift.clip(-cfg['shift'], cfg['shift'])
        centre, half = centre + shift, size * np.exp(growth) * np.float32(0.5)
        boxes = np.concatenate([centre - half, centre + half], 1)
    if cfg['clip']:
        boxes[:, 0::2] = boxes[:, 0::2].clip(0, shape[1])
        boxes[:, 1::2] = boxes[:, 1::2].clip(0, shape[0])
    return boxes


def nms(boxes: np.ndarray, scores: np.ndarray, groups: np.ndarray, iou: float, together: bool = False) -> np.ndarray:
    """Indices of the boxes that no better one of their group overlaps by more than ``iou``, best first."""
    if not len(boxes):
        return np.zeros(0, np.int64)
    if not together:  # groups side by side
        boxes = boxes + groups[:, None].astype(np.float32) * (boxes.max() + np.float32(1))
    order = np.argsort(-scores, kind='stable')
    boxes = boxes[order]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive, keep = np.ones(len(boxes), bool), []
    for i, box in enumerate(boxes):
        if not alive[i]:
            continue
        keep.append(i)
        corner = np.minimum(box[2:], boxes[i + 1 :, 2:]) - np.maximum(box[:2], boxes[i + 1 :, :2])
        common = corner.clip(0).prod(1)
        both = np.maximum(area[i] + area[i + 1 :] - common, np.float32(1e-30))  # without an area nothing overlaps
        alive[i + 1 :] &= ~(common / both > iou)
    return order[keep]


def roi_align(
    features: np.ndarray, boxes: np.ndarray, scale: float, size: Sequence[int], samples: int, aligned: bool
) -> np.ndarray:
    """Averages of bilinear samples: [T, C, H, W] under boxes [N, 4] -> [T, N, C, h, w]. The weights of y and x are apart."""
    steps, channels, height, width = features.shape
    out = np.zeros((steps, len(boxes), channels, *size), np.float32)
    corners = boxes * np.float32(scale) - np.float32(0.5 if aligned else 0)
    for n, (x1, y1, x2, y2) in enumerate(corners):
        down, rows = _sample_weights(y1, y2, size[0], samples, aligned, height)
        across, columns = _sample_weights(x1, x2, size[1], samples, aligned, width)
        out[:, n] = down @ features[:, :, rows, columns] @ across.T
    return out


def _sample_weights(start: float, end: float, bins: int, samples: int, aligned: bool, limit: int) -> tuple[np.ndarray, slice]:
    """Weights [bins, pixels] of a side of a box, and the pixels."""
    one = (end - start if aligned else np.maximum(end - start, np.float32(1))) / np.float32(bins)
    count = samples if samples > 0 else max(int(np.ceil(one)), 0)
    within = (np.arange(count, dtype=np.float32) + np.float32(0.5)) * one / np.float32(max(count, 1))
    place = start + np.arange(bins, dtype=np.float32)[:, None] * one + within
    inside = (place >= -1) & (place <= limit)
    weights = _bilinear(np.where(inside, place.clip(0, limit - 1), -9), limit) / np.float32(max(count, 1))
    used = np.nonzero(weights.any(0))[0]
    pixels = slice(used[0], used[-1] + 1) if len(used) else slice(0, 1)
    return weights[:, pixels], pixels


def _bilinear(places: np.ndarray, cells: int) -> np.ndarray:
    """Weights [N, cells] of cells at 0, 1, … for places [N] or, added up, [N, K]; there is nothing outside."""
    weights = np.zeros((len(places), cells), np.float32)
    rows = np.broadcast_to(np.arange(len(places)).reshape(-1, *[1] * (places.ndim - 1)), places.shape)
    low = np.floor(places)
    for cell, share in ((low, low + 1 - places), (low + 1, places - low)):
        there = (cell >= 0) & (cell < cells)
        np.add.at(weights, (rows[there], cell[there].astype(np.int64)), share[there])
    return weights


def resize(x: np.ndarray, size: Sequence[int], align_corners: bool) -> np.ndarray:
    """Bilinear: [C, H, W] -> [C, *size]."""
    if tuple(size) == x.shape[1:]:
        return x

    def weights(before: int, after: int) -> np.ndarray:
        if align_corners:
            return _bilinear(np.arange(after) * ((before - 1) / max(after - 1, 1)), before)
        return _bilinear(((np.arange(after) + 0.5) * before / after - 0.5).clip(0, before - 1), before)

    return weights(x.shape[1], size[0]) @ x @ weights(x.shape[2], size[1]).T


def paste(target: np.ndarray, mask: np.ndarray, box: np.ndarray, threshold: float) -> None:
    """Write a mask [h, w] of a box, sampled bilinearly and compared with a threshold, into an image [H, W] of bool."""
    x1, y1 = (max(int(np.floor(v)) - 1, 0) for v in box[:2])
    x2, y2 = (min(int(np.ceil(v)) + 1, n) for v, n in zip(box[2:], target.shape[::-1], strict=True))

    def weights(first: int, last: int, start: float, end: float, cells: int) -> np.ndarray:
        with np.errstate(divide='ignore', invalid='ignore'):
            place = (np.arange(first, last, dtype=np.float32) + np.float32(0.5) - start) / (end - start) * 2 - 1
        return _bilinear(((np.where(np.isinf(place), np.float32(0), place) + 1) * cells - 1) / 2, cells)

    if x2 > x1 and y2 > y1:
        down, across = weights(y1, y2, box[1], box[3], mask.shape[0]), weights(x1, x2, box[0], box[2], mask.shape[1])
        target[y1:y2, x1:x2] = down @ mask @ across.T >= threshold
