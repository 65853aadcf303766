#!/usr/bin/env bash
# mmseg 1.4.2 (onedl-mmsegmentation): CrossEntropyLoss with class_weight does not look at avg_non_ignore=False: the mean is of the pixels that are
# not ignored, as with PyTorch, while without class_weight ignored pixels count; so equal weights of 1 change the loss. With avg_non_ignore=True
# and class_weight every batch of label maps raises an IndexError.
# Exits 1 if that has changed. Needs Python 3.11 to 3.13 (PYTHON=python3.12), a package index, and 6 GB for torch.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
"${PYTHON:-python3}" -m venv env
env/bin/pip install --quiet --no-compile --disable-pip-version-check torch==2.14.1 torchvision==0.29.1 numpy==2.4.6
env/bin/pip install --quiet --no-compile --disable-pip-version-check --no-deps onedl-mmsegmentation==1.4.2 onedl-mmengine==0.10.12 onedl-mmcv==2.3.6 \
    opencv-python-headless==5.0.0.93 addict==2.4.0 pyyaml==6.0.3 rich==15.0.0 termcolor==3.3.0 yapf==0.43.0 packaging==26.3 \
    pycocotools==2.0.11 scipy==1.17.1 shapely==2.2.0 six==1.17.0 tqdm==4.70.1 terminaltables==3.1.10 pygments==2.21.0 markdown-it-py==4.3.0 \
    mdurl==0.1.2 platformdirs==4.14.5 matplotlib==3.11.2 contourpy==1.3.3 cycler==0.12.1 fonttools==4.68.0 kiwisolver==1.5.1 \
    pyparsing==3.3.3 python-dateutil==4.0.0 prettytable==3.18.0 wcwidth==0.9.4 ftfy==6.3.1 regex==2026.11.19
cat > run.py <<'PYTHON_CODE'
import importlib.machinery
import sys
import types


class Operators(types.ModuleType):
    """In place of mmcv's compiled operators, which mmseg imports and this does not run."""

    __spec__ = importlib.machinery.ModuleSpec('mmcv._ext', None)

    def __getattr__(self, name):
        if name.startswith('__'):
            raise AttributeError(name)


sys.modules['mmcv._ext'] = Operators('mmcv._ext')

import torch
from mmseg.models.losses import CrossEntropyLoss

torch.manual_seed(0)
logits, labels = torch.randn(2, 3, 8, 8), torch.randint(3, (2, 8, 8))
labels[:, :6] = 255  # three quarters are ignored


def value(**options):
    try:
        return round(CrossEntropyLoss(**options)(logits, labels, ignore_index=255).item(), 4)
    except IndexError as error:
        return f'IndexError: {error}'


torchs = {name: round(torch.nn.functional.cross_entropy(logits, labels, weight, ignore_index=255).item(), 4)
          for name, weight in (('without', None), ('ones', torch.ones(3)))}
seen = {(weight, flag): value(class_weight=[1.0] * 3 if weight else None, avg_non_ignore=flag) for weight in (False, True) for flag in (False, True)}
for (weight, flag), loss in seen.items():
    print(f'class_weight={[1.0] * 3 if weight else None}, avg_non_ignore={flag}: {loss}')
print(f'PyTorch: {torchs["without"]} without weights, {torchs["ones"]} with weights of 1')
expected = torchs['without']
sys.exit(not (
    abs(4 * seen[False, False] - expected) < 1e-3
    and abs(seen[False, True] - expected) < 1e-3
    and abs(seen[True, False] - expected) < 1e-3
    and str(seen[True, True]).startswith('IndexError')
))
PYTHON_CODE
env/bin/python run.py 2> err.log || { cat err.log; exit 1; }
