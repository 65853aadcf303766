"""Protocols of average precision on events, against cases counted by hand and COCO's evaluation itself."""

import logging

import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mmspike.datasets.events.boxes import BOX
from mmspike.engine.metrics import PROTOCOLS, PropheseeMetric, Protocol, evaluate_boxes
from mmspike.engine.metrics.protocols import find_protocol
from mmspike.utils.errors import UserError

GEN1 = (240, 304)
CLASSES = ('car', 'pedestrian')
NONE = Protocol('none')


def boxes(*rows):
    """Rows (t, x, y, w, h, label[, score])."""
    return np.array([(*row[:6], -1, row[6] if len(row) > 6 else 1.0) for row in rows], BOX)


def at(t, w=40, h=30, label=0, score=1.0, x=50):
    return (t, x, 60, w, h, label, score)


def counted(protocol, labels, found=None, sensor=GEN1):
    """Labels and detections that count, and AP."""
    scores = evaluate_boxes({'a': labels}, {'a': labels if found is None else found}, protocol, CLASSES, sensor)
    return scores.boxes, scores.detections, scores.values['AP']


@pytest.mark.parametrize(
    'key, row, counts',
    [
        # a diagonal of just 30 px: 18 x 24
        (('perot', 'gen1'), at(500_001, 18, 24), True),
        (('perot', 'gen1'), at(500_001, 18, 23.9), False),
        (('perot', 'gen1'), at(500_001, 10, 90), True),
        (('perot', 'gen1'), at(500_001, 9.9, 90), False),
        (('perot', 'gen1'), at(500_000), False),
        (('perot', '1mpx'), at(500_001, 36, 48), True),
        (('perot', '1mpx'), at(500_001, 36, 47.9), False),
        (('perot', '1mpx'), at(500_001, 19.9, 90), False),
        (('toolbox', 'gen1'), at(100_001, 20, 40), True),
        (('toolbox', 'gen1'), at(100_001, 19.9, 40), False),
        (('toolbox', 'gen1'), at(100_000, 20, 40), False),
        (('toolbox', '1mpx'), at(100_001, 10, 90), True),
        (('toolbox', '1mpx'), at(100_001, 9.9, 90), False),
        (('sfod', 'gen1'), at(0, 20, 40), True),
        (('sfod', 'gen1'), at(0, 19.9, 40), False),
        (('dagr', 'dsec'), at(0, 20, 90), False),
        (('dagr', 'dsec'), at(0, 20.5, 21), False),
        (('dagr', 'dsec'), at(0, 20.5, 22), True),
        (('none', None), at(0, 1, 1), True),
    ],
)
def test_limits(key, row, counts):
    protocol = find_protocol(*key)
    always = at(600_000, 100, 100, label=1)
    number = 2 if counts else 1
    assert counted(protocol, boxes(*sorted([row, always])), sensor=(720, 1280)) == (number, number, pytest.approx(1))


def test_labels_are_cut_before_they_are_measured_by_perot_alone():
    # 300 + 40 reaches 36 px outside of 304 columns: 3 px are left of column 303
    outside = boxes(at(600_000), at(600_000, x=300, w=40, label=1))
    assert counted(PROTOCOLS['perot', 'gen1'], outside)[0] == 1
    assert counted(PROTOCOLS['toolbox', 'gen1'], outside)[0] == 2


@pytest.mark.parametrize('away, ap', [(50_000, 1.0), (-50_000, 1.0), (50_001, 0.0), (-50_001, 0.0)])
def test_the_tolerance_holds_both_its_ends(away, ap):
    assert counted(NONE, boxes(at(600_000)), boxes(at(600_000 + away)))[2] == pytest.approx(ap)


def test_answers_where_nothing_is_labelled_do_not_count():
    labels = boxes(at(600_000), at(900_000))
    found = boxes(at(600_000, score=0.5), at(750_000, score=0.9), at(900_000, score=0.5))
    assert counted(NONE, labels, found) == (2, 2, pytest.approx(1))
    # two answers near one label: the better one is taken, the other is wrong, and stands first
    twice = boxes(at(580_000, score=0.9, x=120), at(600_000, score=0.5))
    # precision 1/2 at recall 1
    assert counted(NONE, boxes(at(600_000)), twice)[2] == pytest.approx(0.5)


def test_a_case_counted_by_hand():
    # of four labels at four times the detections, by score: right, wrong, right, right; one label is missed
    labels = boxes(*(at(1_000_000 * i) for i in (1, 2, 3, 4)))
    wrong = at(2_000_000, x=200, score=0.8)
    found = boxes(at(1_000_000, score=0.9), wrong, at(3_000_000, score=0.7), at(4_000_000, score=0.6))
    # precision is 1 up to recall 1/4, 3/4 up to recall 3/4: of 101 places 26 and 50
    expected = (26 * 1 + 50 * 0.75) / 101
    scores = evaluate_boxes({'a': labels}, {'a': found}, NONE, CLASSES, GEN1).values
    assert scores['AP50'] == pytest.approx(expected) and scores['AP'] == pytest.approx(expected)
    # of 40 x 30 = 1200 px, which is between 32^2 and 96^2
    assert scores['APm'] == pytest.approx(expected) and np.isnan(scores['APs']) and np.isnan(scores['APl'])


def test_without_a_filter_it_is_cocos_evaluation():
    rng = np.random.default_rng(0)
    truth, found, images, annotations, results = {}, {}, [], [], []
    for name in ('a', 'b'):
        labels, answers = [], []
        for t in (300_000, 700_000, 1_100_000):
            images.append(dict(id=len(images) + 1))
            for _ in range(6):
                x, y, w, h = rng.uniform(0, 200), rng.uniform(0, 150), rng.uniform(5, 120), rng.uniform(5, 80)
                label = int(rng.integers(2))
                labels.append((t, x, y, w, h, label))
                box = dict(image_id=len(images), category_id=label + 1)
                x, y, w, h = (float(np.float32(v)) for v in (x, y, w, h))
                annotations.append(box | dict(id=len(annotations) + 1, bbox=[x, y, w, h], area=w * h, iscrowd=0))
                place = [float(np.float32(v + rng.normal(0, 4))) for v in (x, y)] + [w, h]
                score = float(np.float32(rng.random()))
                answers.append((t, *place, label, score))
                results.append(box | dict(bbox=place, score=score))
        truth[name], found[name] = boxes(*labels), boxes(*answers)
    coco = COCO()
    coco.dataset = dict(images=images, annotations=annotations, categories=[dict(id=1), dict(id=2)], info={})
    coco.createIndex()
    evaluation = COCOeval(coco, coco.loadRes(results), 'bbox')
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    values = evaluate_boxes(truth, found, NONE, CLASSES, GEN1).values
    expected = [value if value >= 0 else np.nan for value in evaluation.stats[:6]]
    assert np.array_equal(list(values.values()), expected, equal_nan=True) and 0 < values['AP'] < 1


def test_what_is_refused():
    with pytest.raises(UserError, match='labels of a are not in order of time: 5 us follows 9'):
        counted(NONE, boxes(at(9), at(5)))
    with pytest.raises(UserError, match='none of 1 labels in 1 recordings counts by the protocol perot'):
        counted(PROTOCOLS['perot', 'gen1'], boxes(at(100)))
    with pytest.raises(UserError, match="protocol='x': expected one of perot"):
        find_protocol('x', 'gen1')
    with pytest.raises(UserError, match="limits for the cameras gen1, 1mpx, not for 'dsec'"):
        find_protocol('perot', 'dsec')


def test_without_detections_it_is_0():
    assert counted(NONE, boxes(at(9)), boxes()) == (1, 0, 0.0)


def sample(t, labels, found, labelled=True, recording='a'):
    found = boxes(*found)
    left, top = found['x'], found['y']
    instances = dict(
        bboxes=torch.from_numpy(np.stack([left, top, left + found['w'], top + found['h']], 1)),
        labels=torch.tensor(found['class_id'].tolist()),
        scores=torch.tensor(found['class_confidence'].tolist()),
    )
    return dict(t=t, boxes=boxes(*labels), labelled=labelled, recording=recording, pred_instances=instances)


@pytest.fixture
def log():
    """What is logged."""
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


@pytest.mark.parametrize('every_answer', [False, True])
def test_the_metric_prints_its_protocol(log, every_answer):
    metric = PropheseeMetric(protocol='perot', every_answer=every_answer)
    metric.dataset_meta = dict(classes=CLASSES, camera='gen1', sensor_size=GEN1, split='test')
    row = at(600_000)
    # in another order than that of time, and with a wrong answer of a window without labels
    second = sample(600_000, [row], [at(600_000, score=0.5)])
    metric.process({}, [second, sample(590_000, [], [at(590_000, score=0.9, x=200)], labelled=False)])
    values = metric.evaluate(2)
    assert values['perot/AP50'] == pytest.approx(0.5 if every_answer else 1.0)
    line = next(line for line in log if line.startswith('Protocol'))
    assert 'perot: diagonal >= 30 px and sides >= 10 px, t > 500000 us, detections within 50000 us' in line
    assert f'split test: 1 recordings, 1 labelled times, 1 boxes, {1 + every_answer} detections' in line


def test_limits_of_ones_own_are_named():
    metric = PropheseeMetric(protocol='perot', camera='gen1', side=5)
    assert metric.limits() == Protocol('perot, changed', 30, 5, 500_000, cut=True)
    with pytest.raises(UserError, match='a sample has no boxes of its file'):
        metric.process({}, [dict(pred_instances={})])


@pytest.mark.parametrize('camera, sensor, classes', [('gen1', GEN1, CLASSES), ('1mpx', (720, 1280), ('a', 'b', 'c'))])
def test_evlib_counts_the_same(camera, sensor, classes):
    """evlib 0.13 has RVT's evaluation, which takes labels as they are: these lie within the sensor."""
    evlib = pytest.importorskip('evlib.eval.prophesee')
    rng = np.random.default_rng(0)
    height, width = sensor

    def drawn(number, times):
        rows = np.zeros(number, evlib.BBOX_DTYPE)
        rows['t'] = np.sort(rng.choice(times, number))
        rows['w'], rows['h'] = rng.uniform(5, width / 5, number), rng.uniform(5, height / 4, number)
        rows['x'], rows['y'] = rng.uniform(0, width - 1 - rows['w']), rng.uniform(0, height - 1 - rows['h'])
        rows['class_id'], rows['class_confidence'] = rng.integers(0, len(classes), number), rng.random(number)
        return rows

    labels = [drawn(300, np.arange(1, 40) * 250_000) for _ in range(4)]
    found = []
    for there in labels:  # most of them moved a little, at times around theirs, and some at random
        moved = there.copy()
        moved['t'] += rng.choice([-50_001, -50_000, 0, 50_000, 50_001], len(moved))
        for name, side in (('x', 'w'), ('y', 'h')):
            moved[name] += rng.normal(0, 0.1, len(moved)) * moved[side]
        moved['class_confidence'] = rng.random(len(moved))
        rows = np.concatenate([moved, drawn(200, np.arange(1, 40) * 250_000)])
        found.append(rows[np.argsort(rows['t'], kind='stable')])
    theirs = evlib.evaluate_list(found, labels, height, width, camera='gen1' if camera == 'gen1' else 'gen4')
    as_boxes = [{str(i): rows[list(BOX.names)].astype(BOX) for i, rows in enumerate(part)} for part in (labels, found)]
    ours = evaluate_boxes(*as_boxes, PROTOCOLS['perot', camera], classes, sensor).values
    assert 0.05 < ours['AP'] < 0.9
    keys = dict(AP='AP', AP50='AP_50', AP75='AP_75', APs='AP_S', APm='AP_M', APl='AP_L')
    # -1 there: no label is of that size
    expected = {name: theirs[key] if theirs[key] >= 0 else float('nan') for name, key in keys.items()}
    assert ours == pytest.approx(expected, abs=1e-9, nan_ok=True)
