"""tools/deployment/deploy.py from the command line to a checkpoint that tools/test.py takes."""

import pickle
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from .networks import build, sfa, whole_model

SIZE = ['--shape', 64, 64, '--device', 'cpu']


@pytest.fixture
def segmentor(repo, tmp_path):
    cfg, _ = whole_model(repo, 'fpn_espike_nuclei.py')
    cfg.dump(tmp_path / 'config.py')
    meta = dict(epoch=3, dataset_meta=dict(classes=['cell', 'rest'], palette=[[0, 0, 0], [9, 9, 9]]))
    torch.save(dict(state_dict=build(cfg.model).state_dict(), meta=meta), tmp_path / 'model.pth')
    return tmp_path / 'config.py', tmp_path / 'model.pth'


def test_deploy(segmentor, run_tool, tmp_path):
    done = run_tool('deployment/deploy.py', *segmentor, '-o', tmp_path / 'out', '--expand', *SIZE)
    assert done.returncode == 0, done.stderr
    assert 'fused, float64: largest difference' in done.stdout
    assert 'binary steps against integers: largest difference 0, 0 of' in done.stdout
    assert 'float-fed: 1 of ' in done.stdout and 'backbone.stem.0.conv.conv (conv)' in done.stdout
    # what was written is that network
    cfg = Config.fromfile(tmp_path / 'out' / 'deployed.py')
    assert cfg.model.type == 'mmspike.Deployed' and cfg.model.expanded
    network = MODELS.build(cfg.model)
    deployed = torch.load(tmp_path / 'out' / 'deployed.pth', weights_only=True)
    network.load_state_dict(deployed['state_dict'])
    # names of classes come along, for whoever shows predictions
    assert deployed['meta'] == dict(dataset_meta=dict(classes=['cell', 'rest'], palette=[[0, 0, 0], [9, 9, 9]]))
    original = MODELS.build(Config.fromfile(segmentor[0]).model)
    original.load_state_dict(torch.load(segmentor[1], weights_only=True)['state_dict'])
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(network.eval()(x), original.eval()(x), rtol=0, atol=1e-4)


def test_saved_classifier_in_a_runner(repo, tmp_path):
    """Its preprocessor is beside the model in the config, from where mmengine hands it to the model."""
    from mmengine.runner import Runner

    from mmspike.deploy import fuse, save

    cfg, model = whole_model(repo, 'espike_cifar10.py')
    del model['data_preprocessor']
    network = fuse(build(dict(model, data_preprocessor=cfg.data_preprocessor)))
    saved, checkpoint = save(network, cfg, tmp_path, False, True)
    cfg = Config.fromfile(saved)
    options = dict(work_dir=str(tmp_path), load_from=str(checkpoint), default_scope='mmpretrain')
    runner = Runner(cfg.model, data_preprocessor=cfg.get('data_preprocessor'), **options)
    runner.load_or_resume()
    assert type(runner.model).__name__ == 'ImageClassifier'
    state = network.state_dict()
    assert all(torch.equal(v, state[k]) for k, v in runner.model.state_dict().items())
    assert torch.equal(runner.model.data_preprocessor.mean, network.data_preprocessor.mean)


def test_configs_for_inference(repo):
    from mmspike.deploy.model import inference_config

    name = 'metaspike/metaspikeformer-15m_t4_8xb24-50e-distill_imagenet.py'
    model = Config.fromfile(repo / 'configs' / name).model
    model.backbone.init_cfg = dict(type='Pretrained', checkpoint='backbone.pth')
    cfg = inference_config(model)
    assert cfg.type == 'mmpretrain.ImageClassifier' and 'teacher' not in cfg and 'init_cfg' not in cfg.backbone
    assert 'teacher' in model and cfg.head == model.head


def test_learned_thresholds_are_saved(repo, tmp_path):
    """The scale of SDSA-4 is a parameter that becomes a threshold, which is none."""
    from mmspike.deploy import fuse

    _, model = whole_model(repo, 'metaspike_imagenet.py')
    model.backbone.sdsa = 4
    trained = build(model)
    for m in trained.modules():
        if hasattr(m, 'threshold'):
            torch.nn.init.constant_(m.threshold, 2.5)
    network = fuse(trained)
    loaded = MODELS.build(dict(type='mmspike.Deployed', model=model))
    loaded.load_state_dict(network.state_dict())
    assert {m.attn_neuron.v_threshold for m in loaded.modules() if hasattr(m, 'attn_neuron')} == {2.5}
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(loaded(x), network(x))


def test_exports_of_an_event_classifier(run_tool, tmp_path):
    """Event frames [T, B, C, H, W] with a free batch in ONNX, and a NIR file with what its readers have to know."""
    onnxruntime = pytest.importorskip('onnxruntime')
    pytest.importorskip('onnxscript')
    nir = pytest.importorskip('nir')
    lif = dict(type='LIF', v_threshold=0.3)
    model = dict(
        type='ImageClassifier',
        backbone=dict(
            type='mmspike.SpikingVGG',
            arch=dict(dims=(4, 6, 8), depths=(2, 1, 1)),
            T=2,
            in_channels=2,
            neuron=lif,
            temporal_output='keep',
        ),
        head=dict(type='mmspike.SpikingLinearClsHead', num_classes=3, in_channels=8, neuron=lif),
        data_preprocessor=dict(type='mmspike.EventDataPreprocessor'),
    )
    cfg = Config(dict(default_scope='mmpretrain', custom_imports=dict(imports=['mmspike']), model=model))
    cfg.dump(tmp_path / 'events.py')
    init_default_scope('mmpretrain')
    torch.save(build(cfg.model).state_dict(), tmp_path / 'events.pth')
    files = [tmp_path / 'e.onnx', tmp_path / 'e.nir']
    options = ['--onnx', files[0], '--nir', files[1], '--dt', 0.001, '--shape', 32, 32, '--device', 'cpu']
    done = run_tool('deployment/deploy.py', tmp_path / 'events.py', tmp_path / 'events.pth', *options)
    assert done.returncode == 0, done.stderr
    session = onnxruntime.InferenceSession(str(files[0]))
    assert session.get_inputs()[0].shape == [2, 'batch', 2, 32, 32] and session.get_outputs()[0].name == 'logits'
    assert nir.read(str(files[1])).metadata['dt'] == 0.001
    notes = done.stdout[done.stdout.index('To read it:') :].splitlines()[1:4]
    assert notes[0] == '- a time step is 0.001 s: norse.torch.from_nir(graph, dt=0.001), but norse has no average pool'
    assert notes[1].endswith('import_from_nir(graph, dt=0.001)') and notes[2].endswith('write it with --dt 0.0001')


def test_audit_of_an_ordinary_network(run_tool, tmp_path):
    config = tmp_path / 'resnet.py'
    model = dict(
        type='ImageClassifier',
        backbone=dict(type='ResNet', depth=18, base_channels=8, stem_channels=8),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=5, in_channels=64),
        data_preprocessor=dict(mean=[120.0] * 3, std=[60.0] * 3),
    )
    Config(dict(default_scope='mmpretrain', model=model)).dump(config)
    done = run_tool('deployment/deploy.py', config, '--audit', *SIZE)
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith('float-fed: 21 of 21 operations: backbone.conv1 (conv), ') and last.endswith('head.fc (linear)')


def test_arguments(segmentor, run_tool, tmp_path):
    assert 'a checkpoint is needed' in run_tool('deployment/deploy.py', segmentor[0]).stderr
    assert 'say what to write' in run_tool('deployment/deploy.py', *segmentor).stderr
    done = run_tool('deployment/deploy.py', *segmentor, '-o', tmp_path / 'out', '--as-trained')
    assert done.returncode == 2 and '--as-trained is for --audit' in done.stderr
    assert '--dt is for --nir' in run_tool('deployment/deploy.py', *segmentor, '-o', tmp_path / 'out', '--dt', 1).stderr
    assert '--frames is for --onnx' in run_tool('deployment/deploy.py', *segmentor, '-o', tmp_path / 'out', '--frames').stderr
    done = run_tool('deployment/deploy.py', *segmentor, '--nir', tmp_path / 'x.nir', '--part', 'backbone.nothing', *SIZE)
    assert done.returncode and "the model has no such part; its own are ['data_preprocessor', 'backbone'" in done.stderr
    done = run_tool('deployment/deploy.py', *segmentor, '--nir', tmp_path / 'x.nir', '--part', 'data_preprocessor', *SIZE)
    assert done.returncode and '--part data_preprocessor: it has no convolution' in done.stderr
    done = run_tool('deployment/deploy.py', *segmentor, '--audit', '--as-trained', '--expand', *SIZE)
    assert done.returncode and 'call fuse() first' in done.stderr


def test_what_is_missing_is_said_before_anything_is_read(run_tool, monkeypatch):
    from mmspike.deploy import engines, onnx_export

    versions = dict(onnxruntime='1.31.1', openvino=None)
    monkeypatch.setattr(engines, 'engine_version', versions.get)
    monkeypatch.setattr(onnx_export, 'is_installed', lambda name: True)
    unread = 'deployment/deploy.py', 'nothing.py', 'nothing.pth'
    done = run_tool(*unread, '--int8', 'm.onnx', '--engine', 'openvino')
    assert done.returncode == 1 and "openvino is not installed: pip install 'openvino>=2026.4'" in done.stderr
    versions['onnxruntime'] = '1.9.2'
    for option in ('--onnx', '--int8'):
        done = run_tool(*unread, option, 'm.onnx')
        assert done.returncode == 1 and 'onnxruntime 1.9.2 is installed, and 1.31 is the first version' in done.stderr
    monkeypatch.setattr(onnx_export, 'is_installed', lambda name: name not in ('onnxscript', 'nir'))
    done = run_tool(*unread, '--onnx', 'm.onnx')
    assert done.returncode == 1 and 'ONNX export needs onnxscript, not installed here' in done.stderr
    done = run_tool(*unread, '--nir', 'm.nir')
    assert done.returncode == 1 and 'NIR export needs nir, not installed here: pip install nir' in done.stderr


@pytest.fixture
def classifier(repo, tmp_path):
    """Config and checkpoint of a classifier that tells the six pictures of its test set apart."""
    from PIL import Image

    pytest.importorskip('onnxscript')
    pytest.importorskip('onnxruntime')
    generator = np.random.default_rng(0)
    for name in ('dark', 'light'):
        (tmp_path / 'data' / 'val' / name).mkdir(parents=True)
        for i in range(3):
            picture = generator.integers(0, 120, (32, 32, 3)) + (120 if name == 'light' else 0)
            Image.fromarray(picture.astype(np.uint8)).save(tmp_path / 'data' / 'val' / name / f'{i}.png')
    cfg = Config.fromfile(repo / 'configs' / 'espike_cifar10.py')
    arch = dict(dims=(4, 6, 8), depths=(2, 1, 1))
    cfg.model.backbone = dict(type='mmspike.SpikingVGG', arch=arch, T=1, pool='max', neuron=sfa(4), temporal_output='keep')
    cfg.model.head.update(num_classes=2, in_channels=8)
    cfg.data_preprocessor.num_classes = 2
    cfg.test_dataloader.dataset.data_root = str(tmp_path / 'data')
    cfg.test_dataloader.num_workers, cfg.test_dataloader.persistent_workers = 0, False
    cfg.test_evaluator = dict(type='Accuracy', topk=(1,))
    cfg.custom_hooks = [dict(type='EMAHook')]  # which copies the model
    cfg.dump(tmp_path / 'config.py')
    init_default_scope('mmpretrain')
    network = build(dict(cfg.model, data_preprocessor=cfg.data_preprocessor))
    with torch.no_grad():
        for norm in (m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)):
            norm.weight *= 3
        network.head.fc.weight *= -20
        network.head.fc.bias[0] -= 2
    torch.save(dict(state_dict=network.state_dict()), tmp_path / 'model.pth')
    return tmp_path / 'config.py', tmp_path / 'model.pth'


def test_integers(classifier, run_tool, tmp_path, monkeypatch):
    """A classifier in integers, tested beside the trained network, and rounded again where that loses."""
    from mmspike.config import testing

    files, lost = [], iter([1.0, 0.25])

    def points_lost(*args) -> float:
        files.append((tmp_path / 'new' / 'int8.onnx').read_bytes())
        return next(lost)

    monkeypatch.setattr(testing, 'points_lost', points_lost)
    done = run_tool('deployment/deploy.py', *classifier, '--int8', tmp_path / 'new' / 'int8.onnx', '--device', 'cpu')
    assert done.returncode == 0, done.stderr
    assert 'onnxruntime 1.' in done.stdout and ', float32: 0 of ' in done.stdout and ' spikes differ (0.000%)' in done.stdout
    scores = re.findall(r'^(as trained|folded|int8 in onnxruntime): accuracy/top1 (\S+)$', done.stdout, re.M)
    assert [name for name, _ in scores] == ['as trained', 'folded', 'int8 in onnxruntime', 'int8 in onnxruntime']
    assert float(scores[0][1]) == float(scores[1][1]) == 100
    assert (tmp_path / 'new' / 'int8.onnx').stat().st_size > 1000
    flipped = re.findall(r'^flipped by rounded weights on 6 images: (\d+) of (\d+) spikes', done.stdout, re.M)
    assert len(flipped) == 2 and 0 < int(flipped[0][0]) < int(flipped[0][1])
    assert 'Rounding loses 1.00 points, more than 0.5.' in done.stdout
    assert files[1] == files[0] != (tmp_path / 'new' / 'int8.onnx').read_bytes()
    assert [path.name for path in (tmp_path / 'new').iterdir()] == ['int8.onnx']
    done = run_tool('deployment/deploy.py', *classifier, '-o', tmp_path, '--engine', 'openvino')
    assert '--engine is for --int8' in done.stderr
    done = run_tool('deployment/deploy.py', *classifier, '-o', tmp_path, '--int8-first')
    assert '--int8-first is for --int8' in done.stderr
    done = run_tool('deployment/deploy.py', *classifier, '--int8', 'integers.pth')
    assert '--int8 integers.pth: the name of an ONNX file ends with .onnx' in done.stderr


def test_an_engine_that_computes_another_network(classifier, run_tool, tmp_path, monkeypatch):
    """A file of another engine is written, and its share of other spikes and what mends it are said; the tool leaves with 1."""
    from mmspike.deploy import engines

    class Halved(engines._OnnxRuntime):
        """Computes with seven eighths of its input, unless as written."""

        def __init__(self, model, threads, precision, batch, as_written) -> None:
            super().__init__(model, threads, precision, batch, as_written)
            self.factor = np.float32(1 if as_written else 0.875)

        def _run(self, inputs):
            return super()._run({name: self.factor * x for name, x in inputs.items()})

    monkeypatch.setattr(engines, '_OnnxRuntime', Halved)
    monkeypatch.setattr(engines, 'ENGINES', dict(onnxruntime='1.31'))
    file = tmp_path / 'model.onnx'
    for option in ('--int8', '--onnx'):
        done = run_tool('deployment/deploy.py', *classifier, option, file, '--shape', 32, 32, '--device', 'cpu')
        assert done.returncode == 1 and file.stat().st_size > 1000
        shares = re.findall(
            r'float32: \d+ of \d+ spikes differ, .*\(([\d.]+)%\): it computes the network differently', done.stdout
        )
        assert len(shares) == 1 and float(shares[0]) > 1
        assert 'set SessionOptions.graph_optimization_level to ORT_DISABLE_ALL, with which 0 of ' in done.stderr
        assert 'has other spikes than the network' in done.stderr and f'({shares[0]}%): set ' in done.stderr


def test_an_onnx_file_in_place_of_a_checkpoint(classifier, run_tool, tmp_path):
    """tools/test.py, image_demo.py and inference() predict with it what they predict with the checkpoint."""
    from mmspike.apis import InputError, inference

    config, checkpoint = classifier
    file = tmp_path / 'model.onnx'
    done = run_tool('deployment/deploy.py', *classifier, '--onnx', file, '--device', 'cpu')
    assert done.returncode == 0, done.stderr
    predictions, accuracy = [], []
    for given in (checkpoint, file):
        done = run_tool('test.py', config, given, '--out', tmp_path / 'out.pkl', '--work-dir', tmp_path / 'work')
        assert done.returncode == 0, done.stderr
        accuracy += re.findall(r'accuracy/top1: (\S+)', done.stdout + done.stderr)
        with open(tmp_path / 'out.pkl', 'rb') as content:
            predictions.append({entry['img_path']: entry['pred_score'] for entry in pickle.load(content)})
    assert len(accuracy) == 2 and float(accuracy[0]) == float(accuracy[1]) == 100 and len(predictions[1]) == 6
    torch.testing.assert_close(predictions[1], predictions[0], rtol=0, atol=1e-5)
    infer = inference(config, file, device='cpu')
    results = infer([*predictions[1]], show_progress=False)
    for result, scores in zip(results, predictions[1].values(), strict=True):
        assert result['pred_scores'] == scores.tolist()
    with pytest.raises(InputError, match='energy: neurons of an ONNX file cannot be looked at, give the checkpoint'):
        infer.energy(torch.zeros(32, 32, 3, dtype=torch.uint8).numpy())
    done = run_tool('image_demo.py', results[0]['path'], config, file, '--out-dir', tmp_path / 'demo', '--device', 'cpu')
    assert done.returncode == 0, done.stderr
    first = results[0]
    assert f'{first["name"]}: {first["pred_label"]} ({first["pred_score"]:.2f})' in done.stdout.splitlines()
    done = run_tool('test.py', config, file, '--tta')
    assert done.returncode == 1 and '--tta and --amp need the network itself' in done.stderr
    for script in (('test.py',), ('image_demo.py', results[0]['path'])):
        done = run_tool(*script, config, checkpoint, '--engine', 'onnxruntime')
        assert done.returncode == 1 and '--engine onnxruntime runs ONNX files' in done.stderr


def test_event_frames_of_a_model_of_images(classifier, run_tool, tmp_path):
    """With --frames the file reads frames [T, B, C, H, W], which its preprocessor does not make."""
    from mmspike.deploy.runner import Runner

    file = tmp_path / 'frames.onnx'
    done = run_tool('deployment/deploy.py', *classifier, '--onnx', file, '--frames', '--device', 'cpu')
    assert done.returncode == 0, done.stderr
    assert '--frames a file of event frames: predictions are not compared' in done.stdout
    assert ', float32: 0 of ' in done.stdout and 'predictions in' not in done.stdout
    result = Runner(file)(np.ones((1, 3, 32, 32), np.float32))
    assert result['scores'].shape == (2,) and abs(result['scores'].sum() - 1) < 1e-6
