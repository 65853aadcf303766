"""Predictions are those of tools/test.py, whatever the inputs come in; what is written; what is refused."""

import json
import pickle

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from pycocotools import mask

for host in ('mmdet', 'mmseg', 'mmpretrain'):
    pytest.importorskip(host)

from mmspike.apis import Inferencer, InputError, inference  # noqa: E402
from mmspike.apis.hosts import class_names  # noqa: E402
from mmspike.models.inspection import reset_spikes  # noqa: E402

from .networks import HOSTS, change_checkpoint, change_config  # noqa: E402


def images(network, host):
    folder = network.data / ('classes/val' if host == 'mmpretrain' else 'val')
    return [str(path) for path in sorted(folder.rglob('*.*')) if path.suffix in ('.png', '.jpg')]


def from_test_tool(run_tool, network, out):
    """What tools/test.py predicts: path of the image -> its entry (a label image for mmseg)."""
    result = run_tool(
        'test.py', *network.files(), '--out', out, '--work-dir', out.parent / 'work', '--cfg-options',
        'test_dataloader.dataset.indices=3',
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    if out.is_dir():
        return {path.stem: cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in out.iterdir()}
    with open(out, 'rb') as file:
        return {entry['img_path']: entry for entry in pickle.load(file)}


def assert_equals_entry(sample, entry, exact):
    close = dict(rtol=0, atol=0) if exact else dict(rtol=1e-4, atol=1e-4)
    if 'pred_score' in entry:
        torch.testing.assert_close(sample.pred_score, entry['pred_score'], **close)
        return
    found, wanted = sample.pred_instances, entry['pred_instances']
    assert len(found) > 0
    for key in ('bboxes', 'scores', 'labels'):
        torch.testing.assert_close(found[key], wanted[key], **close)
    masks = mask.decode(wanted['masks']).transpose(2, 0, 1)
    share = np.mean(found.masks.numpy() != masks)
    assert share == 0 if exact else share < 1e-3


@pytest.mark.parametrize('host', HOSTS)
def test_predictions_are_those_of_the_test_tool(network, run_tool, tmp_path, host):
    """Bit by bit as there one image at a time; rounding differs in batches."""
    network = network(host)
    out = tmp_path / ('labels' if host == 'mmseg' else 'out.pkl')
    entries = from_test_tool(run_tool, network, out)
    infer = inference(*network.files(), device='cpu')
    paths = sorted(entries) if host != 'mmseg' else [p for p in images(network, host) if p.rsplit('/', 1)[1][:-4] in entries]
    assert len(paths) == 3
    for batch_size in (1, 2):
        for path, (_, sample) in zip(paths, infer.stream(paths, batch_size), strict=True):
            if host == 'mmseg':
                labels = sample.pred_sem_seg.data[0].numpy() + 1  # the files have 0 for what is not labelled
                differ = np.mean(labels != entries[path.rsplit('/', 1)[1][:-4]])
                assert differ == 0 if batch_size == 1 else differ < 1e-3
            else:
                assert_equals_entry(sample, entries[path], exact=batch_size == 1)


@pytest.fixture(scope='module')
def detector(network):
    return inference(*network('mmdet').files(), device='cpu')


def scores(results):
    return [result['scores'] for result in results]


@pytest.mark.parametrize('host', ['mmdet', 'mmseg'])
def test_images_of_other_sizes_do_not_share_a_batch(network, host):
    """Padding would change what an attention sees."""
    net = network(host)
    infer = inference(*net.files(), device='cpu')
    one, two, three = (cv2.imread(path) for path in images(net, host))
    mixed = [one, two[:64], three[:, :64], one]
    batches = []
    infer.model.register_forward_pre_hook(lambda module, args, kwargs: batches.append(len(kwargs['inputs'])), with_kwargs=True)
    together = infer(mixed, batch_size=4, show_progress=False)
    assert batches == [1, 1, 1, 1]
    prediction = 'bboxes' if host == 'mmdet' else 'masks'
    assert [r[prediction] for r in together] == [infer(image, show_progress=False)[0][prediction] for image in mixed]
    infer([one, two, three, two[:64]], batch_size=2, show_progress=False)
    assert batches[-3:] == [2, 1, 1]


def test_sources(detector, network, tmp_path, monkeypatch):
    """Path, list, folder, glob and array are the same images."""
    paths = images(network('mmdet'), 'mmdet')
    expected = scores(detector(paths, show_progress=False))
    assert expected[0] != expected[1]
    folder = network('mmdet').data / 'val'
    for inputs in (folder, f'{folder}/*.png', f'{folder.parent}/va?/*.png', [cv2.imread(p) for p in paths]):
        assert scores(detector(inputs, show_progress=False)) == expected
    assert scores(detector(paths[1], show_progress=False)) == expected[1:2]
    assert scores(detector([paths[2], folder], show_progress=False)) == [expected[2], *expected]
    array = cv2.imread(paths[0])
    wide = np.dstack([array.astype(np.uint16) * 257, np.full(array.shape[:2], 7, np.uint16)])
    assert scores(detector([wide, array], show_progress=False)) == [expected[0]] * 2


@pytest.mark.parametrize('host', HOSTS)
def test_files(network, tmp_path, host, capsys):
    """Names that repeat, that are not ASCII, and arrays; the JSON is what is returned."""
    net = network(host)
    paths = images(net, host)[:2]
    odd = tmp_path / 'ä ö' / f'{paths[0].rsplit("/", 1)[1]}'
    odd.parent.mkdir()
    cv2.imencode('.png', cv2.imread(paths[0]))[1].tofile(odd)
    out = tmp_path / 'out' / '图像'
    infer = inference(*net.files(), device='cpu')
    results = infer([*paths, odd, cv2.imread(paths[1])], 2, out, score_thr=0.0, spikes='backbone.stages.1')
    assert 'Inference' in capsys.readouterr().out
    stems = [path.rsplit('/', 1)[1][:-4] for path in paths]
    names = [stems[0], stems[1], f'{stems[0]}_2', '000003']
    assert [result['name'] for result in results] == names
    size = cv2.imread(paths[0]).shape[0]
    for result in results:
        assert json.loads((out / 'preds' / f'{result["name"]}.json').read_text(encoding='utf-8')) == result
        assert result['task'] == infer.task and result['size'] == [size, size]
        spikes = cv2.imdecode(np.fromfile(out / 'spikes' / f'{result["name"]}.png', np.uint8), cv2.IMREAD_COLOR)
        assert spikes.std() > 5
    assert [result['path'] for result in results] == [*paths, str(odd), None]
    drawn = [cv2.imdecode(np.fromfile(out / 'vis' / f'{name}.png', np.uint8), cv2.IMREAD_COLOR) for name in names]
    if host != 'mmdet':  # which draws in colours at random
        assert np.array_equal(drawn[0], drawn[2]) and np.array_equal(drawn[1], drawn[3])
    assert drawn[0].shape[0] == (96 if host == 'mmseg' else 384)
    plain = cv2.resize(cv2.imread(paths[0]), drawn[0].shape[1::-1])
    assert 0.001 < np.mean(np.abs(drawn[0].astype(int) - plain) > 40) < 0.95  # something is drawn on this very picture
    result = results[0]
    if host == 'mmdet':
        assert result['classes'] == [net.classes[label] for label in result['labels']]
        assert mask.decode(result['masks']).shape == (96, 96, len(result['scores']))
    elif host == 'mmseg':
        labels = cv2.imdecode(np.fromfile(out / 'preds' / f'{names[0]}.png', np.uint8), cv2.IMREAD_UNCHANGED)
        assert result['labels'] == np.unique(labels).tolist() and result['classes'] == [
            net.classes[i] for i in result['labels']
        ]
        assert result['shares'] == [np.mean(labels == i) for i in result['labels']]
        assert all(np.array_equal(mask.decode(m), labels == i) for i, m in zip(result['labels'], result['masks'], strict=True))
    else:
        assert result['pred_class'] == net.classes[result['pred_label']]
        assert sum(result['pred_scores']) == pytest.approx(1)


def write_video(path, frames):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*'MJPG'), 10, frames[0].shape[1::-1])
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()


def read_video(path):
    reader = cv2.VideoCapture(str(path))
    frames = []
    while (frame := reader.read()[1]) is not None:
        frames.append(frame)
    return frames


def test_video(detector, network, tmp_path):
    path = tmp_path / 'a b.avi'
    write_video(path, [cv2.imread(p) for p in images(network('mmdet'), 'mmdet')])
    frames = read_video(path)
    expected = scores(detector(frames, show_progress=False))
    results = detector(path, batch_size=2, out_dir=tmp_path / 'out')
    assert [result['name'] for result in results] == [f'a b_{i:06d}' for i in range(3)]
    for found, wanted in zip(scores(results), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4)
    assert len(read_video(tmp_path / 'out' / 'vis' / 'a b.mp4')) == 3
    assert len(list((tmp_path / 'out' / 'preds').iterdir())) == 3


@pytest.mark.parametrize('host', HOSTS)
def test_a_network_of_one_channel_takes_files_arrays_and_videos(network, tmp_path, host):
    net = network(host, channels=1)
    infer = inference(*net.files(), device='cpu')
    path = images(net, host)[0]
    grey, bgr = cv2.imread(path, cv2.IMREAD_GRAYSCALE), cv2.imread(path)
    write_video(tmp_path / 'a.avi', [bgr])
    (frame,) = read_video(tmp_path / 'a.avi')
    inputs = [path, grey, grey[..., None], cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY), bgr, frame, str(tmp_path / 'a.avi')]
    results = infer(inputs, out_dir=tmp_path / 'out', score_thr=0.0, spikes='all', show_progress=False)
    found = [{k: v for k, v in result.items() if k not in ('name', 'path')} for result in results]
    assert found[0] == found[1] == found[2]  # the decoder's grey
    assert found[3] == found[4]  # grey made of BGR
    assert found[5] == found[6]
    shown = cv2.imread(str(tmp_path / 'out' / 'vis' / '000001.png'))
    assert shown.shape[2] == 3


def test_other_channels_than_the_networks_are_named(network):
    net = network('mmpretrain', channels=1)
    cfg = Config.fromfile(net.config)
    cfg.test_dataloader.dataset.pipeline[0].color_type = 'unchanged'
    infer = Inferencer(cfg, net.checkpoint, 'cpu')
    grey = cv2.imread(images(net, 'mmpretrain')[0], cv2.IMREAD_GRAYSCALE)
    assert infer(grey, show_progress=False)[0]['pred_scores'] == infer(grey[..., None], show_progress=False)[0]['pred_scores']
    with pytest.raises(InputError, match=r'array 000000 has 2 channels behind the test pipeline, the network takes 1'):
        infer(np.dstack([grey, grey]), show_progress=False)


def test_stateful_neurons(network, tmp_path):
    """Images are samples of their own, frames of a video are one stream, and another video starts from rest."""
    net = network('mmpretrain', 'LIF')
    cfg = Config.fromfile(net.config)
    cfg.model.backbone.neuron.stateful = cfg.model.head.neuron.stateful = True
    stream, plain = Inferencer(cfg, net.checkpoint, 'cpu'), inference(*net.files(), device='cpu')
    path = tmp_path / 'video.avi'
    write_video(path, [cv2.imread(images(net, 'mmpretrain')[0])] * 3)
    frames = read_video(path)

    def predicted(infer, inputs):
        return [result['pred_scores'] for result in infer(inputs, show_progress=False)]

    alone = predicted(plain, frames)
    assert predicted(stream, frames) == alone
    once, twice = predicted(stream, path), predicted(stream, [path, path])
    assert once[0] == alone[0] and once[1] != alone[1]
    assert twice == once + once
    with torch.no_grad():
        reset_spikes(stream.model)
        by_hand = [stream.model.test_step(stream.batch(frame))[0].pred_score.tolist() for frame in frames]
    assert by_hand == once
    with pytest.raises(InputError, match='one stream for stateful neurons, use batch_size=1'):
        stream(path, batch_size=2, show_progress=False)
    with pytest.raises(InputError, match='would interrupt stateful neurons'):
        stream(path, out_dir=tmp_path / 'out', spikes='all', show_progress=False)


def test_stateful_windows_start_from_rest(network):
    net = network('mmseg', 'LIF')
    cfg = Config.fromfile(net.config)
    cfg.model.test_cfg = dict(mode='slide', crop_size=(64, 64), stride=(32, 32))
    plain = Inferencer(cfg, net.checkpoint, 'cpu')
    for part in ('backbone', 'neck', 'decode_head'):
        cfg.model[part].neuron.stateful = True
    image = images(net, 'mmseg')[0]
    one, two = (next(i.stream(image))[1] for i in (plain, Inferencer(cfg, net.checkpoint, 'cpu')))
    torch.testing.assert_close(one.seg_logits.data, two.seg_logits.data)


def test_small_detections_are_enlarged_in_place(detector, network):
    """Boxes and masks lie, enlarged, where they lay; the sample stays as it is."""
    _, sample = next(detector.stream(images(network('mmdet'), 'mmdet')[0]))
    before = sample.pred_instances.bboxes.clone()
    enlarged = detector._host.enlarged(sample, 4).pred_instances
    assert torch.equal(enlarged.bboxes, before * 4) and torch.equal(sample.pred_instances.bboxes, before)
    assert torch.equal(enlarged.masks[:, ::4, 3::4], sample.pred_instances.masks)


@pytest.mark.parametrize('host', HOSTS)
def test_class_names_without_those_of_the_checkpoint(network, tmp_path, host, recwarn):
    """The config's, and not silently those of COCO or Cityscapes."""
    net = network(host)
    checkpoint = change_checkpoint(net, tmp_path / 'w.pth', meta=None)
    infer = inference(change_config(net, tmp_path / 'c.py'), checkpoint, 'cpu')
    expected = None if host == 'mmpretrain' else list(net.classes)  # class folders have names only where they are
    assert infer.classes == expected
    result = infer(images(net, host)[0], out_dir=tmp_path / 'out', show_progress=False)[0]
    assert 'pred_class' not in result if expected is None else set(result['classes']) <= set(expected)
    assert not [str(w.message) for w in recwarn if 'by default' in str(w.message)]


def test_class_names_of_a_data_set_given_as_a_class():
    class Dataset:
        METAINFO = dict(classes=('cat', 'dog'))

    cfg = Config(dict(test_dataloader=dict(dataset=dict(type=Dataset))))
    assert class_names(cfg, {}) == ['cat', 'dog']


def test_class_names_given_as_a_text(tmp_path):
    path = tmp_path / 'names'
    path.write_text('cat\ndog')
    for dataset, expected in [
        (dict(metainfo=dict(classes='nucleus')), ['nucleus']),
        (dict(metainfo=dict(classes=str(path))), ['cat', 'dog']),
        (dict(classes=str(path)), ['cat', 'dog']),
        (dict(classes=('cat',)), ['cat']),
    ]:
        cfg = Config(dict(test_dataloader=dict(dataset=dict(dataset, type='CustomDataset'))))
        assert class_names(cfg, {}) == expected
    assert class_names(cfg, dict(meta=dict(dataset_meta=dict(classes='nucleus')))) == ['nucleus']


class Runs:
    def __reduce__(self):
        return print, ('code ran',)


def test_checkpoints_that_are_refused(network, tmp_path, capsys):
    net = network('mmpretrain')
    state = torch.load(net.checkpoint, weights_only=False)['state_dict']
    key, last = list(state)[0], list(state)[-1]
    changed = {k: (v[..., None] if k == key else v) for k, v in state.items() if k != last}
    (tmp_path / 'cut.pth').write_bytes(open(net.checkpoint, 'rb').read()[:5000])
    cases = {
        change_checkpoint(
            net, tmp_path / 'other.pth', state_dict=changed
        ): rf'(?s)2 of .* entries do not fit.*{key}: .*{last}: missing',
        change_checkpoint(net, tmp_path / 'code.pth', extra=Runs()): 'code.pth is refused: .*print',
        str(tmp_path / 'cut.pth'): 'cut.pth .*cannot be read',
        str(tmp_path / 'none.pth'): 'none.pth does not exist',
    }
    for checkpoint, message in cases.items():
        with pytest.raises(InputError, match=message):
            inference(net.config, checkpoint, 'cpu')
    assert 'code ran' not in capsys.readouterr().out


def test_configs_that_are_refused(network, tmp_path, monkeypatch):
    net = network('mmpretrain')
    cases = dict(
        no_tests=(dict(test_dataloader=None), 'no test_dataloader.dataset.pipeline'),
        scope=(dict(default_scope='mmpose'), "'mmpose': expected one of 'mmdet', 'mmseg', 'mmpretrain'"),
        events=(
            dict(test_dataloader__dataset__pipeline__0__type='mmspike.LoadEvents'),
            'no LoadImageFromFile.*mmspike.LoadEvents',
        ),
    )
    for name, (options, message) in cases.items():
        with pytest.raises(InputError, match=message):
            inference(change_config(net, tmp_path / f'{name}.py', **options), net.checkpoint)
    monkeypatch.setattr('mmspike.apis.inferencer.is_installed', lambda module: False)
    with pytest.raises(ImportError, match='pip install onedl-mmpretrain'):
        inference(*net.files())


def test_prefixed_loader_is_found(network, tmp_path):
    """mmseg's and mmpretrain's own inferencers would not find it."""
    net = network('mmseg')
    loader = dict(type='mmspike.LoadImageFromFile', on_error='raise')
    config = change_config(net, tmp_path / 'c.py', test_dataloader__dataset__pipeline__0=loader)
    image = images(net, 'mmseg')[0]
    found, wanted = (inference(c, net.checkpoint, 'cpu')(image, show_progress=False) for c in (config, net.config))
    assert found == wanted
