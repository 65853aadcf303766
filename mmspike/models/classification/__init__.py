"""Classification with spikes. Needs mmpretrain."""

from .linear_head import SpikingLinearClsHead

__all__ = ['SpikingLinearClsHead']
