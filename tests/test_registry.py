"""Every operation has a row in `op_table`, every row an operation, and the rows themselves are in order."""

from __future__ import annotations

import numpy as np
import pytest

from corten import _core
from harness import leaves
from op_table import Row, rows

ROWS = rows()


#: Rows of what computes on tensors but is not among `op_names()`: the index operator and the optimizer steps.
BESIDES = {"getitem", "sgd_step", "adam_step", "rmsprop_step"}
#: Functions of the core that compute nothing from tensors: creation, state, the graph, and aids of the tests.
NO_OPERATIONS = """
    tensor asarray from_numpy from_dlpack zeros ones full zeros_like ones_like full_like arange linspace eye rand randn
    randint uniform normal manual_seed get_rng_state set_rng_state set_num_threads get_num_threads is_grad_enabled
    set_grad_enabled grad info finfo iinfo op_names gradcheck gradgradcheck threads_worked
    reset_threads_worked parameter_copies crc32 idx_header idx_header_length safetensors_header
    safetensors_header_length
"""


def test_every_operation_has_a_row() -> None:
    missing = set(_core.op_names()) - set(ROWS)
    assert not missing, f"operations without a row in tests/op_rows/: {sorted(missing)}"


def test_every_row_has_an_operation() -> None:
    unknown = set(ROWS) - set(_core.op_names()) - BESIDES
    assert not unknown, f"rows of tests/op_rows/ without an operation: {sorted(unknown)}"


def test_every_function_is_an_operation_or_known_not_to_be() -> None:
    """A function that was forgotten in `op_names()` would escape the registry."""
    functions = {
        name
        for name, value in vars(_core).items()
        if callable(value) and not isinstance(value, type) and not name.startswith("_")
    }
    assert len(functions) > 80
    forgotten = functions - set(_core.op_names()) - set(NO_OPERATIONS.split()) - BESIDES
    assert not forgotten, f"neither in op_names() nor in this test's list: {sorted(forgotten)}"


def test_operations_are_named_once() -> None:
    names = _core.op_names()
    assert len(names) == len(set(names))


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_row_is_in_order(row: Row) -> None:
    """Samples are told apart by labels, are the same on every call, and a differentiable row has a checked gradient."""
    first, second = row.cases(), row.cases()
    labels = [sample.label for sample in first]
    assert first
    assert all(labels)
    assert len(labels) == len(set(labels)), "two samples share a label"
    for a, b in zip(first, second, strict=True):
        for x, y in zip(leaves(a), leaves(b), strict=True):
            np.testing.assert_array_equal(x, y)
    checked = [sample for sample in first if sample.grad and not sample.big and leaves(sample)]
    assert bool(checked) or not row.grad, "a differentiable operation without a gradient check"
    assert len(row.tol.why) > 20
    assert len(row.grad_tol.why) > 20


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS)
def test_small_samples_are_small(row: Row) -> None:
    """Finite differences call the operation twice per element, twice over for second order."""
    for sample in row.cases():
        if sample.grad and not sample.big:
            assert sum(array.size for array in leaves(sample)) <= 600, sample.label
