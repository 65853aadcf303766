"""Firing rates over an image."""

import cv2
import numpy as np
import pytest

for host in ('mmdet', 'mmseg', 'mmpretrain'):
    pytest.importorskip(host)

from torch import nn  # noqa: E402

from mmspike.apis import InputError, inference  # noqa: E402
from mmspike.apis.spikes import spike_maps  # noqa: E402
from mmspike.config.loading import picture  # noqa: E402
from mmspike.models.inspection import is_neuron, spike_unit, stage_of  # noqa: E402

from .networks import change_config  # noqa: E402


def image_of(net):
    return cv2.imread(str(sorted((net.data / 'val').glob('*.png'))[0]))


@pytest.mark.parametrize('neuron', ['SFA', 'LIF'])
def test_maps_are_mean_rates_of_the_last_layer(network, neuron):
    net = network('mmdet', neuron)
    infer = inference(*net.files(), device='cpu')
    seen = {}
    for name, module in infer.model.named_modules():
        if is_neuron(module) and name.startswith('backbone.stages'):
            module.register_forward_hook(lambda m, x, out, name=name: seen.update({stage_of(name): out / spike_unit(m)}))
    batch = infer.batch(image_of(net))
    maps = spike_maps(infer.model, batch)
    assert {'backbone.stages.0', 'backbone.stages.3', 'neck', 'rpn_head'} <= set(maps)
    assert not [stage for stage in maps if stage.startswith('roi_head')]
    for stage, out in seen.items():
        np.testing.assert_allclose(maps[stage], out[:, 0].mean((0, 1)).numpy(), rtol=1e-5, err_msg=stage)
    assert maps['backbone.stages.1'].max() > 0
    assert list(spike_maps(infer.model, batch, 'neck')) == ['neck']
    with pytest.raises(InputError, match="no stage 'backbone.stages.7' .*backbone.stages.3"):
        spike_maps(infer.model, batch, 'backbone.stages.7')


def test_windows_are_one_map(network, tmp_path):
    """Of a segmentor that is tested in windows the map is of the image, and the windows come back."""
    net = network('mmseg')
    image = image_of(net)
    shapes = []
    for mode in (dict(mode='slide', crop_size=(64, 64), stride=(32, 32)), dict(mode='whole')):
        infer = inference(change_config(net, tmp_path / 'c.py', model__test_cfg=mode), net.checkpoint, 'cpu')
        shapes.append(spike_maps(infer.model, infer.batch(image), 'backbone.stages.0')['backbone.stages.0'].shape)
        assert infer.model.test_cfg.mode == mode['mode']
    assert shapes[0] == shapes[1]


def test_the_map_lies_over_what_the_network_sees(network, tmp_path, monkeypatch):
    """With padding, and a map in the layout of the picture."""
    net = network('mmdet')
    infer = inference(*net.files(), device='cpu')
    image = image_of(net)[:48]
    view = picture(infer.model, infer.batch(image))
    assert view.shape[0] > 48 and np.array_equal(view[:48, :96], image[..., ::-1])
    rates = np.zeros((8, 8), np.float32)
    rates[:4] = 1.0  # above
    monkeypatch.setattr('mmspike.apis.inferencer.spike_maps', lambda model, batch, stage: {stage: rates})
    infer.draw_spikes(np.zeros_like(image), tmp_path / 'a.png', 'neck')
    drawn = cv2.imread(str(tmp_path / 'a.png')).astype(int)
    rows = drawn[:, drawn.shape[1] // 4].mean(-1)  # down through the map
    rows = rows[rows < 250]  # without the margins
    assert rows[: len(rows) // 3].min() > 80 and rows[-len(rows) // 3 :].max() < 10


def test_a_network_without_spikes(network):
    class Silent(nn.Module):
        def test_step(self, batch):
            return []

    with pytest.raises(InputError, match='Silent has no neuron'):
        spike_maps(Silent(), {})
