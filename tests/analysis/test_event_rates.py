"""Energy by events a second."""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.config import ConfigDict
from mmengine.registry import MODELS, init_default_scope

from mmspike.analysis import measure_energy
from mmspike.analysis.event_rates import measure_rates, plot_rates


def test_what_a_window_costs_is_scaled_to_a_second(tmp_path):
    init_default_scope('mmdet')
    torch.manual_seed(0)
    neuron = dict(type='LIF', v_threshold=0.1)
    vgg = dict(type='mmspike.SpikingVGG', arch=dict(dims=(4, 8, 8), depths=(2, 1, 1)), T=2, in_channels=2, neuron=neuron)
    model = MODELS.build(
        ConfigDict(
            type='SingleStageDetector',
            data_preprocessor=dict(type='mmspike.EventDetDataPreprocessor'),
            backbone=dict(vgg, out_indices=(0, 1, 2), temporal_output='keep'),
            bbox_head=dict(
                type='mmspike.SpikingYOLOHead', num_classes=3, in_channels=[4, 8, 8], strides=[2, 4, 8], neuron=neuron
            ),
            test_cfg=dict(nms_pre=50, score_thr=0.5, nms=dict(type='nms', iou_threshold=0.6), max_per_img=5),
        )
    )

    def batch(number):
        frames = torch.zeros(2 * 2 * 32 * 32)
        frames[torch.randperm(len(frames))[:number]] = 1
        meta = dict(img_shape=(32, 32), ori_shape=(32, 32), scale_factor=(1.0, 1.0))
        return dict(inputs=[frames.view(2, 2, 32, 32)], data_samples=[DetDataSample(metainfo=meta)])

    batches = [batch(number) for number in (0, 100, 2000)]
    windows = [(50_000, number, x) for number, x in zip((0, 100, 2000), batches, strict=True)]
    rates = measure_rates(model, windows)
    assert [rate.events for rate in rates] == [0, 2000, 40_000]
    assert rates[0].sops < rates[1].sops < rates[2].sops
    total = measure_energy(model, batches[2:]).total
    assert rates[2].sops == pytest.approx(20 * total['exact_sops'])
    assert rates[2].energy == pytest.approx(20 * total['exact_energy_mj']) and rates[2].macs == pytest.approx(
        20 * total['exact_mac_operations']
    )
    # answers twice as often cost twice as much, of the same events a second
    (often,) = measure_rates(model, windows[2:], every=25_000)
    assert (often.events, often.energy) == (40_000, pytest.approx(2 * rates[2].energy))
    (idle,) = measure_rates(model, [(50_000, 100, None)])
    assert (idle.events, idle.sops, idle.macs, idle.energy) == (2000, 0, 0, 0)
    plot_rates(dict(scene=rates), tmp_path / 'rates.png')
    assert (tmp_path / 'rates.png').read_bytes()[:4] == b'\x89PNG'
