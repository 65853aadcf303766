import json

import numpy as np
import pytest
import torch

from mmspike.analysis import reference
from mmspike.models.official import convert_official, official_key


@pytest.fixture
def verify(run_tool):
    return lambda folder: run_tool('analysis_tools/verify_reference.py', folder)


@pytest.mark.parametrize(
    'name', ['metaspikeformer_15m_T1', 'metaspikeformer_15m_T4', 'espikeformer_5m_D4', 'espikeformer_19m_D4']
)
def test_reference_cases(shared, name):
    path = shared / 'reference' / f'{name}.json'
    case = json.loads(path.read_text())
    with np.load(path.with_suffix('.npz')) as arrays:
        diffs = reference.compare(case, dict(arrays), reference.build_network(case['config']))
    assert all(diffs[k] <= limit for k, limit in reference.LIMITS.items()), diffs


def test_masked_autoencoder(verify, shared, tmp_path):
    path = shared / 'reference' / 'spikemae_small_base.json'
    case = json.loads(path.read_text())
    for suffix in ('.json', '.npz'):
        (tmp_path / f'case{suffix}').write_bytes(path.with_suffix(suffix).read_bytes())
    # what only a case with gradients has
    model = reference.build_network(case['config'])
    image = reference.load_reference(case, model, reference.MAE_UNUSED)
    noise = torch.from_numpy(np.random.default_rng(case['mask_seed']).uniform(0, 1, (2, 196)))
    tool_loss = model.reconstruction_loss(image, model.reconstruct(image, noise))
    tool_loss.backward()
    grads = {k: p.grad for k, p in model.named_parameters()}
    names = [k for k in case['manifest'] if official_key(k) in grads]
    assert len(names) == len(grads)
    case['grad_norm'] = {k: grads[official_key(k)].norm().item() for k in names} | dict(mask_token=0.0)
    (tmp_path / 'case.json').write_text(json.dumps(case))
    result = verify(tmp_path)
    assert result.returncode == 0 and 'case: same' in result.stdout and 'gradients' in result.stdout, result.stdout
    case['grad_norm'][names[5]] *= 1.001
    (tmp_path / 'case.json').write_text(json.dumps(case | dict(loss=case['loss'] * 1.001)))
    result = verify(tmp_path)
    assert result.returncode == 1 and 'off in loss, loss32, gradients' in result.stdout, result.stdout


def write_case(shared, folder, config):
    """A case of another size, as our own network computes it, under the authors' names."""
    known = dict(MetaSpikeFormer='metaspikeformer_15m_T1', ESpikeFormer='espikeformer_5m_D4')[config['family']]
    names = json.loads((shared / 'reference' / f'{known}.json').read_text())['manifest']
    names = dict(names) | ({f'head_kd.{k}': names[f'head.{k}'] for k in ('weight', 'bias')} if config['distilled'] else {})
    model = reference.build_network(config).double()
    shapes = {k: list(v.shape) for k, v in model.state_dict().items()}
    manifest = {k: shapes[official_key(k)][: len(s)] for k, s in names.items()}
    weights, _ = convert_official({k: torch.from_numpy(reference.reference_value(k, s)) for k, s in manifest.items()})
    model.load_state_dict(weights)
    shape = [2, 3, 40, 56]
    feats = model['backbone'](torch.from_numpy(np.random.default_rng(5).normal(0, 1, shape)))
    out = model['head'](feats)
    loss = 0.5 * (out**2).sum()
    loss.backward()
    grads = dict(model.named_parameters())
    parameters = [k for k in manifest if official_key(k) in grads]
    case = dict(
        config=config,
        manifest=manifest,
        input_shape=shape,
        input_seed=5,
        T=config.get('T'),
        loss=loss.item(),
        grad_norm={k: grads[official_key(k)].grad.norm().item() for k in parameters},
    )
    (folder / 'case.json').write_text(json.dumps(case))
    arrays = {f'feature/{n}': f.detach().float().numpy() for n, f in zip(reference.FEATURES, feats, strict=True)}
    np.savez(folder / 'case.npz', logits=out.detach().numpy(), **arrays)
    return case


@pytest.mark.parametrize('family', [dict(family='MetaSpikeFormer', T=3), dict(family='ESpikeFormer', D=8)])
def test_other_dims_size_and_distilled(shared, tmp_path, verify, family):
    config = family | dict(dims=[16, 24, 32, 48], num_heads=2, num_classes=7, distilled=True)
    case = write_case(shared, tmp_path, config)
    result = verify(tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith('case: same')
    # one gradient and the loss off
    case['grad_norm']['block3.2.mlp.fc1_conv.weight'] *= 1.001
    case['loss'] += 1
    (tmp_path / 'case.json').write_text(json.dumps(case))
    result = verify(tmp_path)
    assert result.returncode == 1
    assert 'off in loss, gradients' in result.stdout


def test_case_that_does_not_fit_hides_no_other(shared, tmp_path, verify):
    config = dict(family='ESpikeFormer', D=4, dims=[16, 24, 32, 48], num_heads=2, num_classes=7, distilled=False)
    case = write_case(shared, tmp_path, config)
    del case['manifest']['head.bias']
    (tmp_path / 'a_broken.json').write_text(json.dumps(case))
    (tmp_path / 'a_broken.npz').write_bytes((tmp_path / 'case.npz').read_bytes())
    (tmp_path / 'b_no_arrays.json').write_text(json.dumps(case))
    result = verify(tmp_path)
    assert result.returncode == 1
    assert 'a_broken: off, ValueError' in result.stdout and 'missing: head.fc.bias' in result.stdout
    assert 'b_no_arrays: off, FileNotFoundError' in result.stdout
    assert 'case: same' in result.stdout


def test_nothing_supported(tmp_path, verify):
    (tmp_path / 'case.json').write_text(json.dumps(dict(config=dict(family='SomethingElse'))))
    result = verify(tmp_path)
    assert result.returncode == 1 and 'no case is of a network that is supported' in result.stderr


def test_no_case(verify, tmp_path):
    result = verify(tmp_path)
    assert result.returncode == 1
    assert 'found no case' in result.stderr


def test_weights_follow_from_names(shared, monkeypatch):
    monkeypatch.syspath_prepend(str(shared / 'reference'))
    import weights

    for key, shape in [('a.weight', [3, 4]), ('b.running_var', [5]), ('c.bias', [2]), ('d.num_batches_tracked', [])]:
        assert np.array_equal(reference.reference_value(key, shape), weights.value(key, shape))
