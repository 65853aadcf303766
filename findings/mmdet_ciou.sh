#!/usr/bin/env bash
# mmdet 3.5.1 (onedl-mmdetection): CIoULoss of a box that is found exactly is NaN, and so is its gradient, by which the training ends; DIoULoss
# and GIoULoss are 0 there. CIoU (arXiv 2005.03572) of equal boxes is 0, too: the loss divides 0 by 0 where the ratios of the sides are equal.
# Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12), a package index, and 6 GB for torch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --no-compile --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
env/bin/pip install --quiet --no-compile --disable-pip-version-check --no-deps onedl-mmdetection==3.5.1 onedl-mmengine==0.10.12 onedl-mmcv==2.3.6 \
    opencv-python-headless==5.0.0.93 addict==2.4.0 pyyaml==6.0.3 rich==15.0.0 termcolor==3.3.0 yapf==0.43.0 packaging==26.3 \
    pycocotools==2.0.11 scipy==1.17.1 shapely==2.2.0 six==1.17.0 tqdm==4.70.1 terminaltables==3.1.10 pygments==2.21.0 markdown-it-py==4.3.0 \
    mdurl==0.1.2 platformdirs==4.14.5 matplotlib==3.11.2 contourpy==1.3.3 cycler==0.12.1 fonttools==4.68.0 kiwisolver==1.5.1 \
    pyparsing==3.3.3 python-dateutil==4.0.0
cat > run.py <<'PYTHON_CODE'
import importlib.machinery
import sys
import types


class Operators(types.ModuleType):
    """In place of mmcv's compiled operators, which mmdet imports and this does not run."""

    __spec__ = importlib.machinery.ModuleSpec('mmcv._ext', None)

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)


sys.modules['mmcv._ext'] = Operators('mmcv._ext')

import torch
from mmdet.models.losses import CIoULoss, DIoULoss, GIoULoss

values = {}
for loss in (CIoULoss, DIoULoss, GIoULoss):
    for shift in (0.0, 1.0):
        target = torch.tensor([[10.0, 20, 50, 60], [100, 100, 300, 250]])
        found = (target + shift).requires_grad_()
        value = loss()(found, target)
        value.backward()
        values[loss, shift] = value
        print(f'{loss.__name__} of boxes {shift} px beside their targets: {value:.4f}, finite gradients: {bool(found.grad.isfinite().all())}')
others = all(values[loss, 0.0].abs() < 1e-6 for loss in (DIoULoss, GIoULoss))
sys.exit(not (others and values[CIoULoss, 0.0].isnan() and values[CIoULoss, 1.0] < 0.3))
PYTHON_CODE
env/bin/python run.py 2> err.log || { cat err.log; exit 1; }
