"""`why_no_grad`: each reason is told apart and names what cut the graph."""

from __future__ import annotations

import re

import numpy as np
import pytest

import corten as ct
from corten import nn
from corten.autograd import Function


def leaf(*values: float) -> ct.Tensor:
    return ct.tensor(list(values), dtype="float64", requires_grad=True)


def under_no_grad(x: ct.Tensor) -> ct.Tensor:
    with ct.no_grad():
        return x * 2.0


X = leaf(1.0, 3.0)

ALONE = {
    "a leaf without requires_grad": (
        lambda: ct.ones(2),
        r"nothing that it was computed from does: call req",
    ),
    "computed from such": (lambda: ct.ones(2) * 2.0 + 1.0, r"nothing that it was computed from does"),
    "integers": (lambda: ct.tensor([1, 2]), r"dtype is int64: only float tensors have gradients$"),
    "argmax": (lambda: X.argmax(), r"int64.*ended at 'argmax'"),
    "argsort": (lambda: ct.argsort(X), r"int64.*ended at 'argsort'"),
    "a comparison": (lambda: X > 2.0, r"bool.*ended at 'greater'"),
    "any": (lambda: ct.any(X > 0.0), r"bool.*ended at 'greater'"),
    "a float made from a comparison": (lambda: (X > 2.0).astype("float64") * 3.0, r"ended at 'greater', which has no"),
    "a cast and back": (lambda: X.astype("int32").astype("float64"), r"ended at 'astype', which has no gradient"),
    "detach": (lambda: X.detach(), r"detach\(\) cut it off"),
    "after detach": (lambda: (X.detach() * 2.0).sum(), r"detach\(\) cut it off"),
    "no_grad": (lambda: under_no_grad(X), r"'multiply' ran while recording was off \(no_grad\)"),
    "after no_grad": (lambda: under_no_grad(X).exp(), r"'multiply' ran while recording was off"),
    "through NumPy": (lambda: ct.from_numpy(X.detach().numpy()), r"went through NumPy"),
    "a result": (lambda: X * 2.0, r"result of 'multiply', and only leaves keep.*retain_grad"),
    "a leaf before backward": (lambda: leaf(1.0), r"no backward\(\) has reached it"),
}


@pytest.mark.parametrize("case", ALONE)
def test_a_tensor_alone(case: str) -> None:
    make, text = ALONE[case]
    x = make()
    assert x.grad is None
    assert re.search(text, ct.why_no_grad(x)), ct.why_no_grad(x)


def test_gradients_that_are_there() -> None:
    x = leaf(1.0)
    y = x * 2.0
    y.retain_grad()
    assert "no backward() has reached it" in ct.why_no_grad(y)
    y.sum().backward()
    assert ct.why_no_grad(x) == ct.why_no_grad(y) == "it has a gradient: x.grad is set"


def lines(loss: ct.Tensor, *leaves: ct.Tensor) -> list[str]:
    return ct.why_no_grad(loss, *leaves).split("\n")


def test_leaves_of_a_loss() -> None:
    a, b, c, unused = leaf(1.0), leaf(2.0), leaf(3.0), leaf(4.0)
    frozen = ct.ones(1, dtype="float64")
    index = (b * 2.0).argmax()
    hidden = a * 2.0
    with ct.no_grad():
        constant = c * 3.0
    loss = (hidden + ct.one_hot(index, 1).astype("float64") + constant + frozen).sum()
    told = lines(loss, a, b, c, unused, frozen, hidden)
    assert told[0] == "leaf 0: backward() will reach it"
    for i in (1, 2, 3):
        assert "does not depend on it by any recorded path" in told[i]
        assert "'multiply' under no_grad before 'add'" in told[i]
    assert "does not require grad" in told[4]
    assert "backward() passes it, but it is the result of 'multiply'" in told[5]
    loss.backward()
    assert a.grad is not None
    assert all(x.grad is None for x in (b, c, unused))


def test_a_detached_branch_and_a_comparison() -> None:
    a, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    told = lines((a * w.detach() + (w > 3.5).astype("float64")).sum(), a, w)
    assert told[0].endswith("will reach it")
    assert "detach() before 'multiply'" in told[1]
    assert "'greater', which has no gradient, before 'add'" in told[1]


def test_a_parameter_that_was_replaced() -> None:
    layer = nn.Linear(2, 1)
    old = layer.weight
    layer.to("float64")
    assert "another tensor was in its place" in ct.why_no_grad(layer(ct.ones((1, 2), dtype="float64")).sum(), old)


def test_a_graph_that_was_freed() -> None:
    x = leaf(2.0)
    y = (x * x).sum()
    y.backward()
    x.grad = None
    assert "an earlier backward() has freed what 'sum' saved" in ct.why_no_grad(y, x)


def test_a_loss_without_graph() -> None:
    x = leaf(2.0)
    assert ct.why_no_grad(under_no_grad(x), x).startswith(
        "the loss itself has no graph: it does not require grad: 'multiply'"
    )


def test_a_custom_function_is_named() -> None:
    class Rounded(Function):
        @staticmethod
        def forward(ctx, x):
            y = ct.round(x)
            ctx.mark_non_differentiable(y)
            return y

    assert "ended at 'Rounded'" in ct.why_no_grad(Rounded.apply(leaf(1.5)) * 2.0)


def test_a_new_graph_forgets_old_cuts() -> None:
    y = X.detach().requires_grad_() * 2.0
    assert "result of 'multiply'" in ct.why_no_grad(y)


def test_only_tensors() -> None:
    with pytest.raises(TypeError, match=r"\[why_no_grad\] x must be a tensor, got ndarray"):
        ct.why_no_grad(np.ones(2))
    with pytest.raises(TypeError, match=r"\[why_no_grad\] leaf 0 must be a tensor, got list"):
        ct.why_no_grad(leaf(1.0), [])
