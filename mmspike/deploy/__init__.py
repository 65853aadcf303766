"""From a trained network to addition-only inference: fuse, expand, audit, export."""

from . import rules  # noqa: F401  tells fuse() about the blocks of the backbones
from .audit import Audit, audit
from .check import compare, difference, spikes_that_differ
from .expand import expand
from .fuse import fuse, leftovers
from .model import Deployed, save

__all__ = ['Audit', 'Deployed', 'audit', 'compare', 'difference', 'expand', 'fuse', 'leftovers', 'save', 'spikes_that_differ']
