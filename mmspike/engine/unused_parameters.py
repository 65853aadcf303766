"""Parameters without gradient in DistributedDataParallel: torch gives their numbers, this their names."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from mmspike.utils.errors import UserError


@contextmanager
def unused_parameters_named(model: nn.Module) -> Iterator[None]:
    """If the body fails because a step left parameters of ``model`` without gradient, say which.

    Args:
        model: The wrapper, with the network in ``module``.

    Raises:
        UserError: With the names of the first ones, and the setting that allows it.
    """
    try:
        yield
    except RuntimeError as error:
        found = re.search(r'did not receive grad for rank (\d+): ([\d ]+)', str(error))
        if found is None:
            raise
        trained = [name for name, p in getattr(model, 'module', model).named_parameters() if p.requires_grad]
        names = [trained[int(i)] for i in found[2].split() if int(i) < len(trained)]
        more = f' and {len(names) - 5} more' if len(names) > 5 else ''
        raise UserError(
            f'A step of process {found[1]} gave no gradient to {", ".join(names[:5])}{more}, for which DistributedDataParallel '
            'waits. If these parts are left out on purpose, set find_unused_parameters=True at the top of the config '
            '(--cfg-options find_unused_parameters=True); else use them, or freeze them'
        ) from error
