"""mmcv's operators here against stored results of its compiled ones (``make_reference.py``)."""

from pathlib import Path

import numpy as np
import pytest
from cases import CASES, SEEDS, distance, results


@pytest.fixture(scope='module')
def stored() -> dict[str, np.ndarray]:
    with np.load(Path(__file__).with_name('reference.npz')) as file:
        return dict(file)


@pytest.mark.parametrize('case', CASES)
def test_same_outputs_and_gradients(case: str, stored: dict) -> None:
    tolerance = CASES[case][1]
    for seed in range(SEEDS):
        found = results(case, seed)
        prefix = f'{case}/{seed}/'
        expected = {name.removeprefix(prefix): x for name, x in stored.items() if name.startswith(prefix)}
        assert found.keys() == expected.keys()
        for name, x in found.items():
            assert distance(x, expected[name]) <= tolerance, (seed, name)


def test_the_stored_results_are_of_these_cases(stored: dict) -> None:
    assert {name.split('/')[0] for name in stored} == set(CASES)
