"""Streams of events: answers in time, the same as of the data set, with membranes that go on."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope

from mmspike.apis import EventInferencer, InputError
from mmspike.datasets.events.drawn_files import write_moving_shapes
from mmspike.datasets.events.recording import EVENT, RecordingError

SIZE, WINDOW, T = (48, 64), 100_000, 2
FRAMES = [dict(type='mmspike.EventsToFrames', T=T, by='time')]


def config(task, stateful=False):
    neuron = dict(type='LIF', v_threshold=0.1)
    kept = dict(neuron, stateful=stateful)
    vgg = dict(type='mmspike.SpikingVGG', arch=dict(dims=(4, 8, 8), depths=(2, 1, 1)), T=T, in_channels=2, neuron=kept)
    shared = dict(
        split='train',
        sensor_size=SIZE,
        window=WINDOW,
        test_mode=True,
        metainfo=dict(classes=('a', 'b', 'c'), palette=[[i] * 3 for i in range(3)]),
    )
    load = dict(type='mmspike.LoadEventWindow')
    if task == 'mmdet':
        model = dict(
            type='SingleStageDetector',
            data_preprocessor=dict(type='mmspike.EventDetDataPreprocessor'),
            backbone=dict(vgg, out_indices=(0, 1, 2), temporal_output='keep'),
            bbox_head=dict(
                type='mmspike.SpikingYOLOHead', num_classes=3, in_channels=[4, 8, 8], strides=[2, 4, 8], neuron=neuron
            ),
            test_cfg=dict(nms_pre=50, score_thr=0.0, nms=dict(type='nms', iou_threshold=0.6), max_per_img=5),
        )
        labels, pack = dict(type='LoadAnnotations', with_bbox=True), dict(type='mmspike.PackEventDetInputs')
        data = dict(type='mmspike.Gen1', **shared)
    else:
        model = dict(
            type='EncoderDecoder',
            data_preprocessor=dict(type='mmspike.EventSegDataPreprocessor'),
            backbone=dict(vgg, out_indices=(2,), temporal_output='keep'),
            decode_head=dict(type='mmspike.SpikingFCNHead', num_convs=1, in_channels=8, channels=4, num_classes=3, in_index=0),
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        )
        labels, pack = dict(type='mmspike.LoadEventSegMap'), dict(type='mmspike.PackEventSegInputs')
        data = dict(type='mmspike.DSECSemantic', image_size=(44, 64), skip=0, every=1, **shared)
    data['pipeline'] = [load, labels, *FRAMES, pack]
    return Config(dict(default_scope=task, model=model, test_dataloader=dict(dataset=data)))


@pytest.fixture(scope='module')
def roots(tmp_path_factory):
    folder = tmp_path_factory.mktemp('stream')
    drawing = dict(size=SIZE, seconds=0.6, label_period=WINDOW, noise=3.0)
    return dict(
        mmdet=write_moving_shapes(folder / 'gen1', 'gen1', (1, 0, 0), **drawing),
        mmseg=write_moving_shapes(folder / 'dsec', 'dsec_semantic', (1, 0, 0), **drawing),
    )


@pytest.fixture
def build(roots, tmp_path):
    def run(task, stateful=False):
        cfg = config(task, stateful)
        cfg.test_dataloader.dataset.data_root = str(roots[task])
        init_default_scope(task)
        torch.manual_seed(0)
        model = MODELS.build(cfg.model)
        torch.save(dict(state_dict=model.state_dict()), tmp_path / 'weights.pth')
        return cfg, EventInferencer(cfg, tmp_path / 'weights.pth', 'cpu')

    return run


def numbers(sample):
    return sample.pred_sem_seg.data if 'pred_sem_seg' in sample else sample.pred_instances.bboxes


@pytest.mark.parametrize('task', ['mmdet', 'mmseg'])
def test_answers_are_those_of_the_data_set(build, task):
    cfg, inferencer = build(task)
    data = DATASETS.build(cfg.test_dataloader.dataset)
    info = data.get_data_info(2)
    # windows of a stream count from its first event: one is given that begins as the data set's
    with torch.no_grad():
        expected = inferencer.model.test_step(pseudo_collate([data[2]]))[0]
    from mmspike.datasets.events import open_events

    with open_events(info['events_path'], SIZE) as recording:
        events = recording.between(*info['window'])
    first = np.zeros(1, EVENT)
    first['t'] = info['window'][0]
    inside = events[events['t'] > info['window'][0]]
    stream = inferencer.stream([np.concatenate([first, inside[:50]]), inside[50:]])
    (answer,) = stream
    assert (answer.start, answer.end) == info['window'] and len(answer.events) == len(inside) + 1
    if len(inside) == len(events):  # but for the event that marks the beginning
        answer = inferencer._answer(inferencer.batch(events, *info['window']))
        assert torch.equal(numbers(answer), numbers(expected)) and len(numbers(expected))


def test_windows_follow_each_other_and_overlap(build, roots):
    _, inferencer = build('mmdet')
    recording = next((roots['mmdet'] / 'train').glob('*_td.dat'))
    answers = list(inferencer.stream(recording))
    assert [a.end for a in answers[:-1]] == [a.start for a in answers[1:]] and len(answers) == 6
    assert all(((a.events['t'] >= a.start) & (a.events['t'] < a.end)).all() for a in answers)
    often = list(inferencer.stream(recording, every=WINDOW // 2))
    assert [a.end - b.end for a, b in zip(often[1:], often[:-1], strict=True)] == [WINDOW // 2] * (len(often) - 1)
    assert often[2].events.tolist() == answers[1].events.tolist() and len(often) > 10
    seldom = list(inferencer.stream(recording, every=2 * WINDOW))
    assert seldom[1].events.tolist() == answers[2].events.tolist()


def test_the_lag_counts_what_is_not_done_yet(build, roots, monkeypatch):
    _, inferencer = build('mmdet')
    clock = iter(0.15 * i for i in range(1000))  # 0.15 s an answer, and 0.15 s between them
    monkeypatch.setattr('mmspike.apis.event_stream.time.perf_counter', lambda: next(clock))
    answers = list(inferencer.stream(next((roots['mmdet'] / 'train').glob('*_td.dat'))))
    # answers take 150 ms and come every 100 ms
    assert [round(a.lag) for a in answers] == [150_000 + 50_000 * i for i in range(6)]
    assert [round(a.seconds, 6) for a in answers] == [0.15] * 6


def test_membranes_go_on_within_a_stream_alone(build, roots):
    recording = next((roots['mmdet'] / 'train').glob('*_td.dat'))
    _, inferencer = build('mmdet', stateful=True)
    first, again = ([numbers(a.sample) for a in inferencer.stream(recording)] for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    _, resting = build('mmdet')
    alone = [numbers(a.sample) for a in resting.stream(recording)]
    assert torch.equal(first[0], alone[0]) and not all(a.equal(b) for a, b in zip(first[1:], alone[1:], strict=True))
    with pytest.raises(InputError, match='every=50000 us: expected the window of the network'):
        next(inferencer.stream(recording, every=50_000))


def test_a_folded_network_gives_the_same_answers(build, roots):
    _, inferencer = build('mmdet')
    recording = next((roots['mmdet'] / 'train').glob('*_td.dat'))
    before = [numbers(a.sample) for a in inferencer.stream(recording)]
    assert any('BatchNorm' in type(m).__name__ for m in inferencer.model.backbone.modules())
    inferencer.fold()
    assert not any('BatchNorm' in type(m).__name__ for m in inferencer.model.backbone.modules())
    after = [numbers(a.sample) for a in inferencer.stream(recording)]
    assert len(before) == len(after) and all(torch.allclose(a, b, atol=1e-3) for a, b in zip(before, after, strict=True))


def test_idle_windows_keep_the_answer(build, tmp_path):
    cfg, inferencer = build('mmdet')
    events = np.zeros(60, EVENT)  # 30, 5, 10 and 15 events a window of 100 ms
    events['t'] = np.concatenate([i * WINDOW + np.arange(n) * 1000 for i, n in enumerate((30, 5, 10, 15))])
    events['x'], events['y'] = np.arange(60) % 64, np.arange(60) % 48
    events['p'] = np.arange(60) % 2
    calls = []
    inferencer.model.register_forward_pre_hook(lambda *args: calls.append(1))
    every = list(inferencer.stream([events]))
    assert not any(a.idle for a in every) and len(calls) == 4
    some = list(inferencer.stream([events], idle=10))
    assert [a.idle for a in some] == [False, True, False, False] and len(calls) == 7
    assert torch.equal(numbers(some[1].sample), numbers(every[0].sample)) and some[1].end == 2 * WINDOW
    assert torch.equal(numbers(some[2].sample), numbers(every[2].sample))
    # the first window is always looked at; events count that the filters leave
    assert [a.idle for a in inferencer.stream([events], idle=100)] == [False, True, True, True]
    cfg.test_dataloader.dataset.pipeline.insert(2, dict(type='mmspike.DropBackgroundActivity', duration=1))
    filtered = EventInferencer(cfg, tmp_path / 'weights.pth', 'cpu')
    assert [a.idle for a in filtered.stream([events], idle=5)] == [False, True, True, True]
    _, stateful = build('mmdet', stateful=True)
    with pytest.raises(InputError, match='idle=5: expected 0 for a network whose membranes go on'):
        next(stateful.stream([events], idle=5))
    with pytest.raises(InputError, match='idle=-1: expected a number of events'):
        next(inferencer.stream([events], idle=-1))


@pytest.mark.parametrize('task', ['mmdet', 'mmseg'])
def test_a_video(build, roots, tmp_path, task):
    _, inferencer = build(task)
    recording = next(roots[task].rglob('*_td.dat' if task == 'mmdet' else 'events.h5'))
    answers = inferencer.video(recording, tmp_path / 'a.mp4', score_thr=0.0)
    video = cv2.VideoCapture(str(tmp_path / 'a.mp4'))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == len(answers) == 6 and video.get(cv2.CAP_PROP_FPS) == 10
    assert (video.get(cv2.CAP_PROP_FRAME_HEIGHT), video.get(cv2.CAP_PROP_FRAME_WIDTH)) == (384, 512)


def test_what_is_refused(build, roots, tmp_path):
    cfg, inferencer = build('mmdet')
    outside = np.zeros(2, EVENT)
    outside['x'] = 64
    with pytest.raises(InputError, match='outside the sensor of 48 x 64 px'):
        list(inferencer.stream([outside]))
    with pytest.raises(InputError, match='expected an array with the fields t, x, y, p'):
        list(inferencer.stream([np.zeros(3)]))
    assert list(inferencer.stream([outside[:0]])) == []
    with pytest.raises(RecordingError, match='nothing.dat'):
        list(inferencer.stream(tmp_path / 'nothing.dat'))
    # an event that comes after the answer that it belongs to
    events = np.zeros(3, EVENT)
    events['t'] = [0, 5 * WINDOW, 10]
    list(inferencer.stream([events[:2], events[2:]]))
    assert inferencer.late == 1
    cfg.test_dataloader.dataset.pipeline = [dict(type='LoadImageFromFile')]
    with pytest.raises(InputError, match='begins with mmspike.LoadEventWindow'):
        EventInferencer(cfg, tmp_path / 'weights.pth')
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    with pytest.raises(InputError):
        EventInferencer(config('mmdet'), tmp_path / 'empty.pth')
