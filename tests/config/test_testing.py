"""What tools/test.py adds to a run."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import BaseDataElement

from mmspike.config import testing
from mmspike.config.testing import metrics_of, name_images
from mmspike.models import MetaSpikeFormer
from mmspike.models.backbones.base import InputShapeError


def test_an_image_that_is_too_small_is_named():
    backbone = MetaSpikeFormer(dict(dims=(8, 8, 8, 8), depths=(1, 1, 1, 1, 1)), T=1).eval()
    model = SimpleNamespace(test_step=lambda data: backbone(data['inputs']))
    name_images(SimpleNamespace(model=model))
    samples = [BaseDataElement(metainfo=dict(img_path='val/7.png'))]
    assert len(model.test_step(dict(inputs=torch.zeros(1, 3, 32, 32), data_samples=samples))) == 4
    for named, text in (
        (samples, '^val/7.png: images must be at least 32'),
        (samples * 5, '^val/7.png, val/7.png, val/7.png and 2 more of its batch: images must be at least 32'),
        ([BaseDataElement()], '^images must be at least 32'),
    ):
        with pytest.raises(InputShapeError, match=text):
            model.test_step(dict(inputs=torch.zeros(1, 3, 20, 32), data_samples=named))


def test_metrics_of_numpy_are_figures(monkeypatch):
    """mmseg's are: none of them is a float of Python."""
    runner = SimpleNamespace(test=lambda: {'mIoU': np.float32(81.5), 'mAP': 0.25, 'copypaste': '0.250 -1.000'})
    monkeypatch.setattr(testing, 'build_runner', lambda cfg: runner)
    assert metrics_of(Config(dict()), {'trained': torch.nn.Identity()}) == {'trained': {'mIoU': 81.5, 'mAP': 0.25}}
