"""From a trained network to addition-only inference: fuse, expand, audit, export."""

from .auditing import Audit, audit
from .check import compare, difference
from .conversion import Converted
from .converted_steps import expand_converted
from .expansion import expand
from .exported import Exported
from .fusing import fuse, leftovers
from .model import Deployed, save

__all__ = [
    'Audit',
    'Converted',
    'Deployed',
    'Exported',
    'audit',
    'compare',
    'difference',
    'expand',
    'expand_converted',
    'fuse',
    'leftovers',
    'save',
]
