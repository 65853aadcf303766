"""Our networks against stored outputs and gradients of the authors' code, on weights that follow from the authors' names."""

import zlib
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor, nn

from mmspike.models.checkpoints import explain_mismatch
from mmspike.models.official import convert_official, official_key
from mmspike.registry import MODELS

FEATURES = ('conv1_1', 'stage1', 'stage2', 'stage3', 'stage4')
# Largest difference allowed. Stored features and gradients are float32, hence their limits; all but logits are relative.
LIMITS = dict(logits64=1e-6, logits32=1e-4, features=1e-5, loss=1e-6, gradients=1e-6)
MAE_LIMITS = dict(mask=0, features64=1e-6, features32=1e-4, loss=1e-6, loss32=1e-4, gradients=1e-6)
# what the authors' autoencoder has in its state dict and does not use, or what follows from its size
MAE_UNUSED = {'mask_token', 'pos_embed', 'decoder_pos_embed'}


def reference_value(key: str, shape: list[int]) -> np.ndarray:
    """Weight of a reference network: drawn with a seed that is the CRC-32 of its name."""
    if key.endswith('num_batches_tracked'):
        return np.zeros(shape, np.int64)
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith('running_mean'):
        return rng.normal(0.0, 0.2, shape)
    if key.endswith('running_var'):
        return rng.uniform(0.5, 1.5, shape)
    if len(shape) >= 2:
        return rng.normal(0.0, np.sqrt(2.0 / np.prod(shape[1:])), shape)
    if key.endswith('bias'):
        return rng.normal(0.0, 0.2, shape)
    return rng.uniform(0.5, 1.5, shape)


def build_network(config: dict) -> nn.Module | None:
    """Backbone (all features) and head of a case's config, or its autoencoder; None for a family that is not supported."""
    family = config['family']
    if family == 'SpikeMAE':
        return build_autoencoder(config)
    if family not in MODELS.module_dict:
        return None
    arch = {k: config[k] for k in ('dims', 'depths', 'num_heads', 'mlp_ratio') if k in config}
    if 'D' in config:
        T, neuron = 1, dict(type='SFA', levels=config['D'])
        head_neuron = neuron | dict(divisor=1)
    else:
        T, neuron = config['T'], dict(type='LIF', tau=2.0)
        head_neuron = neuron
    backbone = MODELS.get(family)(arch=arch, T=T, neuron=neuron, out_indices=('stem', 0, 1, 2, 3), temporal_output='keep')
    head = MODELS.get('SpikingLinearClsHead')(
        config['num_classes'], arch['dims'][-1], neuron=head_neuron, distilled=config.get('distilled', False)
    )
    return nn.ModuleDict(dict(backbone=backbone, head=head)).eval()


def build_autoencoder(config: dict) -> nn.Module:
    arch = dict(
        dims=config['dims'],
        depths=(1, 1, 2, config['depth']),
        num_heads=config['num_heads'],
        rep_conv=config['variant'] == 'base',
    )
    backbone = dict(type='mmspike.ESpikeFormerLarge', arch=arch, neuron=dict(type='SFA', levels=config['D']))
    decoder = dict(
        type='mmspike.SpikeMAEDecoder',
        in_channels=config['dims'][-1],
        patch_size=config['patch'],
        dim=config['decoder_dim'],
        depth=config['decoder_depth'],
        num_heads=config['decoder_heads'],
    )
    return MODELS.get('SpikeMAE')(backbone, decoder, token_order='shuffled').eval()


def relative(ours: Tensor, theirs: np.ndarray) -> float:
    """Largest difference over the largest magnitude."""
    expected = torch.from_numpy(theirs).double()
    return ((ours.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).item()


def load_reference(case: dict, model: nn.Module, unused: Collection[str] = ()) -> Tensor:
    """Fill ``model`` with a case's weights, in float64, and return its images."""
    weights = {k: torch.from_numpy(reference_value(k, s)) for k, s in case['manifest'].items()}
    converted, dropped = convert_official(weights)
    problems = explain_mismatch(model, converted) + ''.join(f'\ndropped: {k}' for k in dropped if k not in unused)
    if problems:
        raise ValueError(f'the reference weights do not fit:\n{problems}')
    model.double().load_state_dict(converted, strict=True)
    return torch.from_numpy(np.random.default_rng(case['input_seed']).normal(0.0, 1.0, case['input_shape']))


def gradient_difference(case: dict, arrays: dict[str, np.ndarray], model: nn.Module) -> float:
    """Largest relative difference of a case's gradients and gradient norms, where it has any, from those of ``model``."""
    grads = {k: p.grad for k, p in model.named_parameters()}
    worst = 0.0
    for key, norm in case.get('grad_norm', {}).items():
        if key in MAE_UNUSED and not norm:
            continue
        ours = grads[official_key(key)].norm().item()
        worst = max(worst, abs(ours - norm) / max(norm, 1e-12))
    for key in (k for k in arrays if k.startswith('grad/')):
        ours = grads[official_key(key.removeprefix('grad/'))]
        worst = max(worst, relative(ours.reshape(arrays[key].shape), arrays[key]))
    return worst


def compare_autoencoder(case: dict, arrays: dict[str, np.ndarray], model: nn.Module) -> dict[str, float]:
    """Largest difference of each kind in MAE_LIMITS between a case and its autoencoder; of gradients where there are any."""
    image = load_reference(case, model, MAE_UNUSED)
    model.mask_ratio = case['mask_ratio']
    noise = torch.from_numpy(np.random.default_rng(case['mask_seed']).uniform(0, 1, arrays['active'].shape))
    diffs = {}
    for bits, dtype in (('64', torch.float64), ('32', torch.float32)):
        model = model.to(dtype)
        result = model.reconstruct(image.to(dtype), noise)
        loss = model.reconstruction_loss(image.to(dtype), result)
        pairs = (('latent', result['latent']), ('reconstruction', result['prediction'][:, ::7]))
        diffs[f'features{bits}'] = max(relative(ours, arrays[f'feature/{name}']) for name, ours in pairs)
        diffs['loss' if bits == '64' else 'loss32'] = abs(loss.item() - case['loss']) / abs(case['loss'])
        if bits == '64':
            diffs['mask'] = int((result['visible'].numpy() != arrays['active'].astype(bool)).sum())
            loss.backward()
            if 'grad_norm' in case or any(k.startswith('grad/') for k in arrays):
                diffs['gradients'] = gradient_difference(case, arrays, model)
    return diffs


def compare(case: dict, arrays: dict[str, np.ndarray], model: nn.Module) -> dict[str, float]:
    """Largest difference of each kind in the limits between a case and the network built for it."""
    if case['config']['family'] == 'SpikeMAE':
        return compare_autoencoder(case, arrays, model)
    image = load_reference(case, model)
    logits = torch.from_numpy(arrays['logits'])
    features = model['backbone'](image)
    out = model['head'](features)
    loss = 0.5 * (out**2).sum()
    loss.backward()
    diffs = dict(logits64=(out - logits).abs().max().item(), features=0.0, gradients=0.0)
    diffs['loss'] = abs(loss.item() - case['loss']) / abs(case['loss'])
    for name, feature in zip(FEATURES, features, strict=True):
        theirs = arrays[f'feature/{name}']
        diffs['features'] = max(diffs['features'], relative(feature.reshape(theirs.shape), theirs))
    diffs['gradients'] = gradient_difference(case, arrays, model)

    with torch.no_grad():
        model = model.float()
        diffs['logits32'] = (model['head'](model['backbone'](image.float())) - logits).abs().max().item()
    return diffs
