#!/usr/bin/env bash
# mmdet 3.5.1 (onedl-mmdetection): a dense head (here RetinaNet's) whose test_cfg has no nms_pre, or -1, leaves out the lowest candidate above
# score_thr of every level: an image with one object may have no box. mmdet reads the missing nms_pre as -1 and takes candidates[:-1].
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
from mmdet.models.dense_heads import RetinaHead
from mmengine.config import ConfigDict

head = RetinaHead(
    num_classes=1,
    in_channels=4,
    feat_channels=4,
    stacked_convs=1,
    anchor_generator=dict(type='AnchorGenerator', scales=[1], ratios=[1.0], strides=[16]),
    bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
)
image = dict(img_shape=(64, 64), scale_factor=(1, 1))
counts = []
for objects in (1, 2, 3):
    scores = torch.full((1, 1, 4, 4), -9.0)
    scores.view(-1)[:objects] = 3.0
    for limit in (dict(nms_pre=1000), dict(), dict(nms_pre=-1)):
        cfg = ConfigDict(score_thr=0.5, max_per_img=100, **limit)
        found = head.predict_by_feat([scores], [torch.zeros(1, 4, 4, 4)], batch_img_metas=[image], cfg=cfg, with_nms=False)[0]
        counts.append(len(found))
        print(f'{objects} candidates above score_thr, {limit or "no nms_pre"}: {len(found)} boxes')
sys.exit(counts != [1, 0, 0, 2, 1, 1, 3, 2, 2])
PYTHON_CODE
env/bin/python run.py 2> err.log || { cat err.log; exit 1; }
