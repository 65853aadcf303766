"""Drawn recordings of an event camera: discs, squares and triangles that move, stand still and hide each other.

The sensor is the usual model: a pixel sends an event each time the logarithm of its brightness has changed by a threshold
since its last one (section 2 of arXiv 1904.08405). Background and camera stand still, noise fires everywhere, and a few
pixels are hot.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from .boxes import BOX
from .recording import EVENT, in_order

CLASSES = ('disc', 'square', 'triangle')
CORNERS = (32, 4, 3)
STEP = 4000  # us between two pictures of the scene
THRESHOLD = 0.25  # of the logarithm of brightness
GREY = 0.5  # of the background
BRIGHTNESS = ((0.15, 0.3), (0.8, 1.0))  # of shapes, darker and brighter ones
SUBPIXEL_BITS = 4  # cv2.fillPoly takes fixed-point corners
HOT_RATE = 300.0  # events a second of a hot pixel


@dataclass(frozen=True)
class DrawnRecording:
    """A recording and what is in it.

    Attributes:
        sensor_size: Height and width in px.
        events: An array of ``EVENT``.
        label_times: When it is labelled, in us.
        boxes: An array of ``BOX`` at those times; a box may reach outside the sensor, and shapes that are hidden have none.
        maps: uint8 [labels, H, W]: 0 background, 1 + class.
    """

    sensor_size: tuple[int, int]
    events: np.ndarray
    label_times: np.ndarray
    boxes: np.ndarray
    maps: np.ndarray


@dataclass
class _Shape:
    """A shape that goes straight on, turns back where its middle leaves the sensor, and rests now and then."""

    label: int
    track: int
    radius: float
    angle: float
    brightness: float
    place: np.ndarray
    speed: np.ndarray
    moves_until: float
    rests_until: float

    @classmethod
    def drawn(cls, rng: np.random.Generator, track: int, size: tuple[int, int]) -> '_Shape':
        height, width = size
        label = int(rng.integers(len(CLASSES)))
        darker = int(rng.integers(2))
        direction, pace = 2 * math.pi * rng.random(), min(size) * rng.uniform(0.4, 1.2)
        return cls(
            label=label,
            track=track,
            radius=min(size) * rng.uniform(0.14, 0.26),
            angle=math.pi / CORNERS[label] + rng.uniform(-0.3, 0.3),
            brightness=rng.uniform(*BRIGHTNESS[darker]),
            place=rng.random(2) * (width, height),
            speed=pace * np.array([math.cos(direction), math.sin(direction)]),
            moves_until=0.0,
            rests_until=0.0,
        )

    def corners(self) -> np.ndarray:
        angles = self.angle + 2 * math.pi * np.arange(CORNERS[self.label]) / CORNERS[self.label]
        return self.place + self.radius * np.stack([np.cos(angles), np.sin(angles)], 1)

    def advance(self, rng: np.random.Generator, now: float, seconds: float, size: tuple[int, int], rests: float) -> None:
        """``rests`` is the part of the time in which it stands."""
        if now >= self.rests_until:  # another while of moving, and of standing behind it
            whole = rng.uniform(0.8, 1.6)
            self.moves_until = now + whole * (1 - rests)
            self.rests_until = now + whole
        if now >= self.moves_until:
            return
        self.place = self.place + self.speed * seconds
        for axis, limit in enumerate((size[1], size[0])):
            if not 0 <= self.place[axis] <= limit:
                self.speed[axis] = math.copysign(self.speed[axis], 0.5 * limit - self.place[axis])


def _scene(rng: np.random.Generator, track: int, shapes: tuple[int, int], size: tuple[int, int]) -> list[_Shape]:
    """As many shapes as ``shapes`` allows, whose tracks count from ``track`` on."""
    return [_Shape.drawn(rng, track + i, size) for i in range(int(rng.integers(shapes[0], shapes[1] + 1)))]


def _draw(shapes: list[_Shape], size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Brightness [H, W], and which shape is seen at a pixel: 0 background, k the k-th."""
    owner = np.zeros(size, np.uint8)
    for number, shape in enumerate(shapes, start=1):
        points = np.rint(shape.corners() * (1 << SUBPIXEL_BITS)).astype(np.int32)
        cv2.fillPoly(owner, [points], number, shift=SUBPIXEL_BITS)
    return np.array([GREY, *(shape.brightness for shape in shapes)])[owner], owner


def _labels(shapes: list[_Shape], owner: np.ndarray, t: int) -> tuple[list[tuple], np.ndarray]:
    """Rows of ``BOX`` of the shapes of which at least a third of what lies inside is seen, and the map of classes."""
    rows = []
    for number, shape in enumerate(shapes, start=1):
        alone = _draw([shape], owner.shape)[1]
        if (owner == number).sum() * 3 < max(int(alone.sum()), 1):
            continue
        low, high = shape.corners().min(0), shape.corners().max(0)
        rows.append((t, *low, *(high - low), shape.label, shape.track, 1.0))
    return rows, np.array([0, *(1 + shape.label for shape in shapes)], np.uint8)[owner]


def _noise(rng: np.random.Generator, size: tuple[int, int], seconds: float, noise: float, hot: int) -> np.ndarray:
    height, width = size
    everywhere = rng.poisson(noise * height * width * seconds)
    x, y = rng.integers(width, size=everywhere), rng.integers(height, size=everywhere)
    hot_x, hot_y = rng.integers(width, size=hot), rng.integers(height, size=hot)
    fired = rng.poisson(HOT_RATE * seconds, hot)
    events = np.empty(int(everywhere + fired.sum()), EVENT)
    events['x'], events['y'] = np.append(x, hot_x.repeat(fired)), np.append(y, hot_y.repeat(fired))
    events['t'] = rng.integers(int(seconds * 1e6), size=len(events))
    events['p'] = rng.integers(2, size=len(events))
    return events


def draw_recording(
    rng: np.random.Generator,
    size: tuple[int, int] = (96, 128),
    seconds: float = 2.0,
    label_period: int = 250_000,
    shapes: tuple[int, int] = (1, 3),
    rests: float = 0.0,
    noise: float = 1.0,
    hot_pixels: int = 2,
    scene: float | None = None,
) -> DrawnRecording:
    """A recording of moving shapes.

    Args:
        rng: Of all that is random; one of the same seed draws the same.
        size: Height and width of the sensor in px.
        seconds: How long it is.
        label_period: us from one labelled time to the next.
        shapes: Fewest and most shapes; (0, 0) is a scene in which nothing happens.
        rests: Part of the time in which a shape stands still, and sends no events.
        noise: Events of noise a pixel and second.
        hot_pixels: Pixels that fire all the time.
        scene: Seconds after which other shapes take the place of those seen so far. The change itself sends no events. None:
            the same ones from the beginning to the end.

    Raises:
        ValueError: A number is out of range.

    Example:
        >>> import numpy as np
        >>> from mmspike.datasets.events.moving_shapes import draw_recording
        >>> drawn = draw_recording(np.random.default_rng(0), seconds=1.0)
        >>> drawn.label_times.tolist(), drawn.maps.shape
        ([250000, 500000, 750000, 1000000], (4, 96, 128))
    """
    if min(size) < 32 or seconds <= 0 or label_period < STEP or not 0 <= shapes[0] <= shapes[1] or not 0 <= rests < 1:
        raise ValueError(
            f'expected a sensor of at least 32 px, a positive duration, labels every {STEP} us or less often, a '
            f'number of shapes, and a part of rest below 1, got {size}, {seconds} s, {label_period} us, {shapes}, {rests}'
        )
    if scene is not None and scene * 1e6 < STEP:
        raise ValueError(f'expected scenes of at least {STEP / 1e6} s, got {scene}')
    shown = _scene(rng, 0, shapes, size)
    last = np.log(_draw(shown, size)[0])
    parts = [_noise(rng, size, seconds, noise, hot_pixels)]
    times: list[int] = []
    boxes: list[tuple] = []
    maps: list[np.ndarray] = []
    tracks, change = len(shown), scene * 1e6 if scene else math.inf
    for step in range(1, round(seconds * 1e6) // STEP + 1):
        now = step * STEP
        if scene and now > change:
            shown = _scene(rng, tracks, shapes, size)
            last = np.log(_draw(shown, size)[0])
            tracks, change = tracks + len(shown), change + scene * 1e6
        for shape in shown:
            shape.advance(rng, now / 1e6, STEP / 1e6, size, rests)
        brightness, owner = _draw(shown, size)
        crossed = np.trunc((np.log(brightness) - last) / THRESHOLD).astype(np.int64)
        last += crossed * THRESHOLD
        parts.append(_sent(rng, crossed, now - STEP))
        while (len(times) + 1) * label_period <= now:
            times.append((len(times) + 1) * label_period)
            rows, labels = _labels(shown, owner, times[-1])
            boxes += rows
            maps.append(labels)
    return DrawnRecording(
        sensor_size=size,
        events=in_order(np.concatenate(parts)),
        label_times=np.array(times, np.int64),
        boxes=np.array(boxes, BOX),
        maps=np.stack(maps) if maps else np.zeros((0, *size), np.uint8),
    )


def _sent(rng: np.random.Generator, crossed: np.ndarray, start: int) -> np.ndarray:
    """As many events of a pixel as thresholds were crossed, at any times of a step."""
    y, x = np.nonzero(crossed)
    number = np.abs(crossed[y, x])
    events = np.empty(int(number.sum()), EVENT)
    events['x'], events['y'], events['p'] = x.repeat(number), y.repeat(number), (crossed[y, x] > 0).repeat(number)
    events['t'] = start + rng.integers(STEP, size=len(events))
    return events
