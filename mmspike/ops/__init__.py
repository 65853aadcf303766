"""mmcv's operators on torchvision and plain PyTorch, for an mmcv without its compiled extension ``mmcv._ext``.

``install_operators`` lets Python find a module ``mmcv._ext`` where mmcv has none; importing mmspike calls it. What is covered
stands in :mod:`mmspike.ops.table`. A compiled extension is used as it is.
"""

from .extension import install_operators

__all__ = ['install_operators']
