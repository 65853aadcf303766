"""Drawn recordings as files in the layouts of published data sets, for trials and tests."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .boxes import BOX, GEN1_FILE, TOOLBOX_FILE
from .moving_shapes import CLASSES, DrawnRecording, draw_recording
from .splits import DDD17, DSEC_DET_VAL, DSEC_SEMANTIC, SPLITS
from .stream import MissingPackage

VERSION = 1  # raise when drawings or files change
OFFSET = 50_000_000_000  # us, of the clock of DSEC's recordings


def write_dat(path: Path, events: np.ndarray, sensor_size: tuple[int, int]) -> None:
    """Events as ``.dat``, as GEN1 and 1 Mpx have them."""
    records = np.empty(len(events), [('t', '<u4'), ('word', '<u4')])
    records['t'] = events['t']
    records['word'] = events['x'].astype(np.uint32) | events['y'].astype(np.uint32) << 14 | events['p'].astype(np.uint32) << 28
    header = f'% Data file containing CD events\n% Version 2\n% Height {sensor_size[0]}\n% Width {sensor_size[1]}\n'
    path.write_bytes(header.encode() + bytes([0, 8]) + records.tobytes())


def write_boxes(path: Path, boxes: np.ndarray, dtype: np.dtype) -> None:
    """``BOX`` as a ``.npy`` with the fields of ``dtype``."""
    rows = np.zeros(len(boxes), dtype)
    for name, older in zip(BOX.names or (), ('ts', *'xywh', 'class_id', 'track_id', 'confidence'), strict=True):
        rows[name if name in (dtype.names or ()) else older] = boxes[name]
    np.save(path, rows)


def write_dsec_events(path: Path, events: np.ndarray, sensor_size: tuple[int, int]) -> None:
    """Events as DSEC's ``events.h5``: times from ``t_offset`` on, the first event of every ms, and the sensor's size."""
    try:
        import h5py
    except ImportError:
        raise MissingPackage(f'to write {path} pip install h5py') from None
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, 'w') as file:
        for name, kind in (('t', np.uint32), ('x', np.uint16), ('y', np.uint16), ('p', np.uint8)):
            file[f'events/{name}'] = events[name].astype(kind)
        file['events/height'], file['events/width'] = sensor_size
        file['t_offset'] = OFFSET
        file['ms_to_idx'] = np.searchsorted(events['t'], np.arange(events['t'][-1] // 1000 + 1) * 1000).astype(np.uint64)


def _gen1(folder: Path, name: str, drawn: DrawnRecording) -> None:
    write_dat(folder / f'{name}_td.dat', drawn.events, drawn.sensor_size)
    write_boxes(folder / f'{name}_bbox.npy', drawn.boxes, GEN1_FILE)


def _one_mpx(folder: Path, name: str, drawn: DrawnRecording) -> None:
    write_dat(folder / f'{name}_td.dat', drawn.events, drawn.sensor_size)
    write_boxes(folder / f'{name}_bbox.npy', drawn.boxes, TOOLBOX_FILE)


def _dsec_det(folder: Path, name: str, drawn: DrawnRecording) -> None:
    write_dsec_events(folder / name / 'events' / 'left' / 'events.h5', drawn.events, drawn.sensor_size)
    tracks = folder / name / 'object_detections' / 'left'
    tracks.mkdir(parents=True)
    boxes = drawn.boxes.copy()
    boxes['t'] += OFFSET
    write_boxes(tracks / 'tracks.npy', boxes, TOOLBOX_FILE)
    (folder / name / 'images').mkdir()
    np.savetxt(folder / name / 'images' / 'timestamps.txt', drawn.label_times + OFFSET, '%d')


def _dsec_semantic(folder: Path, name: str, drawn: DrawnRecording) -> None:
    import h5py

    events = folder / name / 'events' / 'left'
    write_dsec_events(events / 'events.h5', drawn.events, drawn.sensor_size)
    height, width = drawn.sensor_size
    with h5py.File(events / 'rectify_map.h5', 'w') as file:  # a lens that moves nothing
        file['rectify_map'] = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    labels = folder / name / 'semantic' / '11classes' / 'data'
    labels.mkdir(parents=True)
    np.savetxt(folder / name / 'semantic' / 'timestamps.txt', drawn.label_times + OFFSET, '%d')
    for number, labelled in enumerate(drawn.maps):
        _write_png(labels / f'{number:06d}.png', labelled[: height * 11 // 12])


def _ddd17(folder: Path, name: str, drawn: DrawnRecording) -> None:
    recording = folder.parent / name
    (recording / 'segmentation_masks').mkdir(parents=True)
    (recording / 'index').mkdir()
    events = drawn.events
    (recording / 'events.dat.t').write_bytes((events['t'] * 1000).astype('<i8').tobytes())
    (recording / 'events.dat.xyp').write_bytes(np.stack([events[key] for key in 'xyp'], 1).astype('<i2').tobytes())
    last = np.searchsorted(events['t'], drawn.label_times)
    before = np.searchsorted(events['t'], drawn.label_times - 50_000)
    np.save(recording / 'index' / 'index_50ms.npy', np.stack([drawn.label_times * 1000, last, before], 1))
    for number, labelled in enumerate(drawn.maps, start=1):
        height = len(labelled)
        _write_png(recording / 'segmentation_masks' / f'segmentation_{number:08d}.png', labelled[: height * 10 // 13])


def _n_caltech101(folder: Path, name: str, drawn: DrawnRecording) -> None:
    """The recording in the class of its first shape, with the box of that."""
    first = drawn.boxes[0]
    label = CLASSES[first['class_id']]
    root = folder.parent
    for part in ('Caltech101', 'Caltech101_annotations'):
        (root / part / label).mkdir(parents=True, exist_ok=True)
    number = len(list((root / 'Caltech101' / label).iterdir())) + 1
    events = drawn.events
    word = events['p'].astype(np.int64) << 23 | events['t']
    raw = np.stack([events['x'], events['y'], word >> 16, word >> 8 & 255, word & 255], 1).astype(np.uint8)
    (root / 'Caltech101' / label / f'image_{number:04d}.bin').write_bytes(raw.tobytes())
    left, top, right, bottom = first['x'], first['y'], first['x'] + first['w'], first['y'] + first['h']
    corners = np.rint([2, 5, left, top, right, top, right, bottom, left, bottom, left, top]).astype('<i2')
    (root / 'Caltech101_annotations' / label / f'annotation_{number:04d}.bin').write_bytes(corners.tobytes())


def _write_png(path: Path, image: np.ndarray) -> None:
    if not cv2.imwrite(str(path), image):  # it reports a failure by returning False only
        raise OSError(f'could not write {path}')


Writer = Callable[[Path, str, DrawnRecording], None]
# layout -> the writer of a recording, and its name by split and number
LAYOUTS: dict[str, tuple[Writer, Callable[[str, int], str]]] = {
    'gen1': (_gen1, lambda split, i: f'17-01-01_00-00-00_{i}_{split}'),
    '1mpx': (_one_mpx, lambda split, i: f'moorea_2019-01-01_000_td_{i}_{split}'),
    'dsec_det': (_dsec_det, lambda split, i: DSEC_DET_VAL[i] if split == 'val' else f'zurich_city_{i:02d}_{split[0]}'),
    'dsec_semantic': (_dsec_semantic, lambda split, i: DSEC_SEMANTIC[split][i]),
    'ddd17': (_ddd17, lambda split, i: f'dir{DDD17[split][i]}'),
    'n_caltech101': (_n_caltech101, lambda split, i: f'{i}'),
}
# layouts whose recordings have a number of their own, and those of which a split has none
LARGEST = dict(dsec_det=(99, 6, 99), dsec_semantic=(8, 0, 3), ddd17=(5, 1, 1), n_caltech101=(9999, 0, 0))


def write_moving_shapes(
    root: str | Path, layout: str, number: tuple[int, int, int] = (20, 4, 4), seed: int = 0, **drawing
) -> Path:
    """Write drawn recordings in the layout of a published data set, or find them already written.

    ``root`` appears only when everything in it is written; an interrupted call leaves no half data set.

    Args:
        root: Folder to make.
        layout: 'gen1' or '1mpx' (``.dat`` and ``.npy`` of boxes), 'dsec_det' (HDF5 and tracks), 'dsec_semantic' (HDF5 and PNGs
            of 11 rows of 12; at most 8, 0 and 3 recordings), 'ddd17' (arrays and PNGs of 10 rows of 13; 5, 1 and 1 recordings),
            'n_caltech101' (``.bin`` and corners of at most 240 x 256 px; 0 to validate and test on: its data set divides).
        number: Recordings to train on, to validate and to test on.
        seed: Of all drawings; no recording depends on how many others there are.
        drawing: What :func:`draw_recording` takes: ``size``, ``seconds``, ``label_period``, ``rests``, …

    Returns:
        ``root`` as a path.

    Raises:
        ValueError: No such layout, or more recordings than it has names for.
        FileExistsError: ``root`` holds something else, or recordings drawn otherwise.

    Example:
        >>> import tempfile
        >>> root = write_moving_shapes(f'{tempfile.mkdtemp()}/gen1', 'gen1', number=(1, 1, 1), seconds=0.5)
        >>> sorted(file.name for file in (root / 'train').iterdir())
        ['17-01-01_00-00-00_0_train_bbox.npy', '17-01-01_00-00-00_0_train_td.dat']
    """
    if layout not in LAYOUTS:
        raise ValueError(f'layout={layout!r}: expected one of {", ".join(LAYOUTS)}')
    most = LARGEST.get(layout, (9999,) * 3)
    if (
        number[0] < 1
        or any(not 0 <= n <= m for n, m in zip(number, most, strict=True))
        or (layout == 'ddd17' and sum(number) != 7)
    ):
        raise ValueError(
            f'number={tuple(number)}: layout {layout} takes at least 1 to train on and at most {most}, ddd17 all of them'
        )
    root = Path(root)
    drawing = dict(layout=layout, number=list(number), seed=seed, version=VERSION) | {
        key: list(value) if isinstance(value, tuple) else value for key, value in drawing.items()
    }
    marker = root / 'moving_shapes.json'
    if root.exists():
        found = json.loads(marker.read_text()) if marker.is_file() else None
        if found != drawing:
            raise FileExistsError(
                f'{root} holds {found or "something else"}, not {drawing}: delete it, or choose another folder'
            )
        return root
    partial = root.with_name(f'.{root.name}.{os.getpid()}')
    try:
        _write(partial, layout, tuple(number), seed, drawing)
        (partial / 'moving_shapes.json').write_text(json.dumps(drawing))
        partial.rename(root)
    finally:
        shutil.rmtree(partial, ignore_errors=True)  # gone after the rename
    return root


def _write(root: Path, layout: str, number: tuple[int, ...], seed: int, drawing: dict) -> None:
    write, name = LAYOUTS[layout]
    settings: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in drawing.items()}
    settings = {key: v for key, v in settings.items() if key not in ('layout', 'number', 'seed', 'version')}
    # DSEC-Det has its recordings to validate on in the folder of those to train on
    folders = dict(val='train') if layout == 'dsec_det' else {}
    for split, count in zip(SPLITS, number, strict=True):
        folder = root / folders.get(split, split)
        folder.mkdir(parents=True, exist_ok=True)
        for i in range(count):
            rng = np.random.default_rng([seed, SPLITS.index(split), i])
            drawn = draw_recording(rng, **settings)
            write(folder, name(split, i), drawn)
