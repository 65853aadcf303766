"""Energy with memory access: the analytical model of Lemaire et al. (arXiv 2210.13107), for counts of spikes as well.

Equal to spikingjelly's ``estimate_lemaire_energy`` on networks of IF and LIF neurons, whose spikes are binary; its cost table
is used here. What is added: a count k is k messages and k accesses to every weight and potential that it reaches; an integer
neuron works for T * D binary steps; transposed convolutions, functional convolutions and products of features (their second
factor is read like weights).
"""

from collections import Counter
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from .counter import Call

WORD = 4  # bytes: 32-bit integers throughout
FIFO_MESSAGES = 1000  # capacity of a layer's queue of spikes (Lemaire et al., section 4)
COMPONENTS = ('compute', 'addressing', 'spikes and features', 'weights', 'potentials')


class LemaireMemory:
    """Energy in pJ by component (``COMPONENTS``) of layers and neurons, for :class:`mmspike.analysis.OpCounter`.

    Memory is SRAM as large as what a layer keeps in it, so an access costs more in a larger layer (10 pJ a word at 8 KiB,
    20 at 32 KiB, 100 at 1 MiB and above). 45 nm, 32-bit integers: an addition 0.1 pJ, a multiplication 3.1 pJ.
    """

    def __init__(self) -> None:
        try:
            from spikingjelly.activation_based.op_counter.analytical_energy import LemaireEnergyCostConfig
        except ImportError as error:
            raise ImportError(
                'the memory-aware estimate takes its costs from spikingjelly >= 2.0: pip install spikingjelly'
            ) from error
        self.cost = LemaireEnergyCostConfig()

    def _access(self, words: float, capacity: float) -> float:
        """Energy of reading or writing ``words`` in a memory of ``capacity`` words."""
        return words * WORD * self.cost.memory_cost_pj(capacity * WORD)

    def _compute(self, additions: float, macs: float) -> float:
        return additions * self.cost.e_add_pj + macs * (self.cost.e_mul_pj + self.cost.e_add_pj)

    def layer(self, call: 'Call') -> tuple[Counter, Counter]:
        """Energy of a call as it is fed, and of one step of the same layer in an ordinary network."""
        op, steps = call.linear, call.steps
        queue = FIFO_MESSAGES
        parameters = op.weights.numel() + op.bias
        bias = op.outputs if op.bias else 0
        twin = self._dense(call, 1 / steps)
        twin['spikes and features'] += self._access(op.outputs / steps, op.outputs / steps)  # the written output
        if call.fed == 'floats':
            return self._dense(call, 1), twin
        if op.out_channels:
            additions = call.spikes * op.out_per_group * op.reached_taps
            touched = call.spikes * op.out_per_group * op.taps
            first_output = 2 * call.spikes  # multiplications to find it
        else:
            additions = touched = call.events
            first_output = 0
        spent = Counter()
        spent['compute'] = self._compute(additions + bias, 0)
        spent['addressing'] = self._compute(touched, first_output)
        spent['spikes and features'] = self._access(call.spikes, queue)
        spent['weights'] = self._access(touched + bias, parameters)
        spent['potentials'] = 2 * self._access(touched, op.outputs // steps)
        return spent, twin

    def _dense(self, call: 'Call', share: float) -> Counter:
        """Energy of ``share`` of a call as multiply-accumulates; its output stays in the potentials of the neurons after it."""
        op = call.linear
        bias = op.outputs if op.bias else 0
        read = op.macs if op.out_channels else op.inputs
        spent = Counter()
        spent['compute'] = share * self._compute(bias, op.macs)
        spent['addressing'] = self._compute(share * (op.inputs + op.outputs) + op.out_channels * op.taps, 0)
        spent['spikes and features'] = self._access(share * read, share * op.inputs)
        spent['weights'] = self._access(share * (op.macs + bias), op.weights.numel() + op.bias)
        return spent

    def neuron(self, module: nn.Module, counts: Tensor, steps: int) -> Counter:
        """Energy of a neuron layer: its potentials are read and written every step, its spikes go into a queue."""
        import spikingjelly.activation_based.neuron as theirs

        spikes = counts.sum(dtype=torch.float64).item()
        leaky = getattr(module, 'leaky', not isinstance(module, theirs.IFNode))
        spent = Counter()
        spent['compute'] = self._compute(spikes, counts.numel() if leaky else 0)
        spent['potentials'] = 2 * self._access(counts.numel() * getattr(module, 'levels', 1), counts.numel() // steps)
        spent['spikes and features'] = self._access(spikes, FIFO_MESSAGES)
        return spent
