"""Functional transforms against closed forms, NumPy's differences and each other."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest

import corten as ct

RNG = np.random.default_rng(3)


def tensor(*shape: int) -> ct.Tensor:
    return ct.tensor(RNG.normal(size=shape))


def close(a, b, rtol: float = 1e-12, atol: float = 1e-13) -> None:
    np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=rtol, atol=atol)


def differences(fn, x: np.ndarray, eps: float = 1e-6) -> np.ndarray:
    """The Jacobian of a NumPy function by central differences: truncation 1e-12, rounding 1e-10 at order 1."""
    columns = []
    for k in range(x.size):
        d = np.zeros(x.size)
        d[k] = eps
        d = d.reshape(x.shape)
        columns.append((fn(x + d) - fn(x - d)) / (2 * eps))
    return np.stack(columns, axis=-1).reshape(*columns[0].shape, *x.shape)


A = tensor(3, 4)


def mixed(x):
    """(4,) -> (3,): not linear, not symmetric."""
    return ct.tanh(A @ x) * x[:3].exp() + x[3] ** 2


def mixed_numpy(x: np.ndarray) -> np.ndarray:
    return np.tanh(A.numpy() @ x) * np.exp(x[:3]) + x[3] ** 2


# -- vjp


def test_vjp_of_a_product() -> None:
    a, x, v = tensor(3, 4), tensor(4), tensor(3)
    y, pullback = ct.vjp(ct.matmul, a, x)
    da, dx = pullback(v)
    close(y, a.numpy() @ x.numpy())
    close(da, np.outer(v, x))
    close(dx, a.numpy().T @ v.numpy())
    close(pullback(v * 2.0)[1], 2 * dx.numpy())  # again, and linear
    assert not y.requires_grad
    assert not dx.requires_grad


def test_vjp_leaves_the_inputs_alone() -> None:
    x = tensor(3).requires_grad_()
    y, pullback = ct.vjp(lambda t: t * t, x)
    close(pullback(ct.ones((3,), dtype="float64")), 2 * x.detach().numpy())
    assert x.grad is None
    assert not y.requires_grad
    z = tensor(3)
    ct.vjp(lambda t: t * t, z)
    assert not z.requires_grad


class Pair(NamedTuple):
    left: ct.Tensor
    right: ct.Tensor


def test_nested_structures() -> None:
    inputs = {"a": tensor(2), "more": [tensor(2), (tensor(2),)], "pair": Pair(tensor(2), tensor(2))}

    def fn(tree, factor):
        more, last = tree["more"][0], tree["more"][1][0]
        return {"sum": tree["a"] * more, "rest": (last * factor, tree["pair"].left * 3.0)}

    y, pullback = ct.vjp(fn, inputs, tensor(2))
    assert set(y) == {"sum", "rest"}
    one = ct.ones((2,), dtype="float64")
    g, factor = pullback({"sum": one, "rest": (one, one)})
    close(g["a"], inputs["more"][0])
    close(g["more"][0], inputs["a"])
    close(factor, inputs["more"][1][0])
    assert isinstance(g["pair"], Pair)
    close(g["pair"].left, [3.0, 3.0])
    close(g["pair"].right, [0.0, 0.0])  # not used: zeros


def test_wrong_structures_and_shapes() -> None:
    _, pullback = ct.vjp(lambda x: (x, x * 2.0), tensor(2))
    with pytest.raises(ValueError, match=r"\[vjp\] gradients must have the structure"):
        pullback(tensor(2))
    with pytest.raises(ValueError, match=r"\[vjp\] gradients 1 must have shape \(2,\).*got \(3,\)"):
        pullback((tensor(2), tensor(3)))
    with pytest.raises(TypeError, match=r"\[vjp\] inputs must be tensors.*got float"):
        ct.vjp(lambda x: x, 1.0)
    with pytest.raises(TypeError, match=r"\[vjp\] inputs must be float tensors, got int64"):
        ct.vjp(lambda x: x, ct.tensor([1]))
    with pytest.raises(TypeError, match=r"\[vjp\] outputs must be tensors"):
        ct.vjp(lambda x: 3.0, tensor(2))
    with pytest.raises(ValueError, match=r"\[vjp\] there is no input"):
        ct.vjp(lambda: tensor(1))
    with pytest.raises(ValueError, match=r"\[jvp\] tangents 0 must have shape"):
        ct.jvp(lambda x: x, tensor(2), tensor(3))
    with pytest.raises(ValueError, match=r"\[hessian\] fn must return one tensor of one element, got \(2,\)"):
        ct.hessian(lambda x: x, tensor(2))
    with pytest.raises(ValueError, match=r"\[hvp\] fn must return"):
        ct.hvp(lambda x: (x.sum(), x.sum()), tensor(2), tensor(2))


# -- jvp


def test_jvp_against_differences() -> None:
    x, t = tensor(4), tensor(4)
    y, dy = ct.jvp(mixed, x, t)
    close(y, mixed_numpy(x.numpy()))
    close(dy, differences(mixed_numpy, x.numpy()) @ t.numpy(), rtol=1e-8, atol=1e-8)


def test_jvp_of_a_linear_function_is_the_function() -> None:
    x, t = tensor(4), tensor(4)
    _, dy = ct.jvp(lambda v: A @ v, (x,), (t,))
    close(dy, A.numpy() @ t.numpy())


def test_jvp_of_a_constant_and_of_one_of_two_inputs() -> None:
    x, t = tensor(2), tensor(2)
    constant = tensor(3)
    _, dy = ct.jvp(lambda v: (constant, v[0] * 0.0 + constant), x, t)
    close(dy[0], np.zeros(3))
    close(dy[1], np.zeros(3))
    _, d = ct.jvp(lambda a, b: a * 2.0, (x, x), (t, t * 100.0))
    close(d, 2 * t.numpy())


LAYERS = {
    "conv": lambda x: ct.nn.functional.conv2d(x.reshape((1, 1, 4, 4)), W),
    "batch norm": lambda x: ct.batch_norm(x.reshape((4, 4)), training=True),
    "softmax": lambda x: ct.softmax(x.reshape((4, 4)), axis=1),
    "pool": lambda x: ct.max_pool2d(x.reshape((1, 1, 4, 4)), 2),
    "logsumexp": lambda x: ct.logsumexp(x),
    "layer norm": lambda x: ct.nn.functional.layer_norm(x.reshape((4, 4)), (4,)),
    "cross entropy": lambda x: ct.cross_entropy(x.reshape((4, 4)), ct.tensor([0, 3, 1, 1])),
    "linear": lambda x: ct.linear(x.reshape((4, 4)), W.reshape((2, 4)), activation="relu"),
}
W = tensor(2, 1, 2, 2)


@pytest.mark.parametrize("name", LAYERS)
def test_inner_product_of_jvp_and_vjp(name: str) -> None:
    """v . (J t) = (J^T v) . t, for any v and t: both paths through every kind of operation."""
    fn, x, t = LAYERS[name], tensor(16), tensor(16)
    y, dy = ct.jvp(fn, x, t)
    _, pullback = ct.vjp(fn, x)
    v = tensor(*y.shape)
    g = pullback(v)
    close((v * dy).sum(), (g * t).sum(), rtol=1e-10, atol=1e-12)
    close(dy, (ct.jacobian(fn, x).reshape((y.size, 16)) @ t).reshape(y.shape), rtol=1e-10, atol=1e-12)


# -- jacobian, hessian, hvp


def test_jacobian_against_differences_and_by_parts() -> None:
    x = tensor(4)
    j = ct.jacobian(mixed, x)
    assert j.shape == (3, 4)
    close(j, differences(mixed_numpy, x.numpy()), rtol=1e-8, atol=1e-8)


def test_jacobian_shapes_and_structures() -> None:
    a, b = tensor(2, 3), tensor(3)
    j = ct.jacobian(lambda x, y: (x * y, y.sum()), (a, b))
    assert [[block.shape for block in row] for row in j] == [[(2, 3, 2, 3), (2, 3, 3)], [(2, 3), (3,)]]
    close(j[0][0].numpy().reshape(6, 6), np.diag(np.tile(b.numpy(), 2)))
    close(j[1][0], np.zeros((2, 3)))
    close(j[1][1], np.ones(3))
    assert ct.jacobian(lambda x: x.sum(), a).shape == (2, 3)
    assert isinstance(ct.jacobian(lambda x: x * 2.0, (b,)), tuple)
    assert ct.jacobian(lambda x: x[:0], b).shape == (0, 3)


def test_hessian_of_a_quadratic_form() -> None:
    m = tensor(4, 4)
    h = ct.hessian(lambda x: x @ (m @ x), tensor(4))
    close(h, m.numpy() + m.numpy().T)


def rosenbrock(x):
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum()


def test_hessian_of_rosenbrock() -> None:
    """The closed form that every textbook has, in three variables."""
    x = tensor(3)
    a, b, c = x.tolist()
    wanted = [
        [1200 * a * a - 400 * b + 2, -400 * a, 0],
        [-400 * a, 202 + 1200 * b * b - 400 * c, -400 * b],
        [0, -400 * b, 200],
    ]
    close(ct.hessian(rosenbrock, x), wanted)


def test_hessian_is_symmetric_and_agrees_with_hvp() -> None:
    model = ct.nn.Sequential(ct.nn.Linear(4, 5), ct.nn.Tanh(), ct.nn.Linear(5, 3)).to("float64")
    data, target = tensor(6, 4), ct.tensor([0, 1, 2, 0, 1, 2])

    def loss(w, v):
        h = ct.tanh(ct.linear(data, w, model[0].bias))
        return ct.cross_entropy(ct.linear(h, v), target)

    w, v = tensor(5, 4), tensor(3, 5)
    h = ct.hessian(loss, (w, v))
    assert [[b.shape for b in row] for row in h] == [[(5, 4, 5, 4), (5, 4, 3, 5)], [(3, 5, 5, 4), (3, 5, 3, 5)]]
    full = np.block(
        [[h[i][j].numpy().reshape(h[i][i].shape[0] * h[i][i].shape[1], -1) for j in (0, 1)] for i in (0, 1)]
    )
    close(full, full.T)
    assert np.abs(full).max() > 1e-2
    dw, dv = tensor(5, 4), tensor(3, 5)
    value, (pw, pv) = ct.hvp(loss, (w, v), (dw, dv))
    close(value, loss(w, v).detach())
    close(
        np.concatenate([pw.numpy().ravel(), pv.numpy().ravel()]),
        full @ np.concatenate([dw.numpy().ravel(), dv.numpy().ravel()]),
    )
    # Forward over reverse gives the same.
    _, (fw, fv) = ct.jvp(lambda *xs: ct.value_and_grad(loss, (0, 1))(*xs)[1], (w, v), (dw, dv))
    close(fw, pw)
    close(fv, pv)


def test_hessian_of_linear_and_constant_functions_is_zero() -> None:
    x = tensor(3)
    close(ct.hessian(lambda t: t.sum(), x), np.zeros((3, 3)))
    close(ct.hessian(lambda t: ct.tensor(1.0, dtype="float64"), x), np.zeros((3, 3)))
    close(ct.hvp(lambda t: t.sum(), x, x)[1], np.zeros(3))


# -- nesting


def test_transforms_nest() -> None:
    """Inside a transform, derivatives are recorded without being asked for."""
    x = tensor(3)
    close(ct.jacobian(lambda t: ct.jacobian(rosenbrock, t), x), ct.hessian(rosenbrock, x))
    third = ct.jacobian(lambda t: ct.hessian(lambda u: (u**4).sum(), t), x)
    wanted = np.zeros((3, 3, 3))
    wanted[range(3), range(3), range(3)] = 24 * x.numpy()
    close(third, wanted)
    _, twice = ct.jvp(lambda t: ct.jvp(ct.exp, t, t)[1], x, ct.ones((3,), dtype="float64"))
    close(twice, (1 + x.numpy()) * np.exp(x.numpy()))


def test_create_graph_reaches_what_the_function_closes_over() -> None:
    w, x = tensor(3).requires_grad_(), tensor(3)
    assert not ct.jacobian(lambda t: (w * t**2).sum(), x).requires_grad
    g = ct.jacobian(lambda t: (w * t**2).sum(), x, create_graph=True)
    g.sum().backward()
    close(w.grad, 2 * x.numpy())


def test_inputs_of_an_outer_graph() -> None:
    x = tensor(3).requires_grad_()
    _, pullback = ct.vjp(lambda t: t**3, x, create_graph=True)
    pullback(ct.ones((3,), dtype="float64")).sum().backward()
    close(x.grad, 6 * x.detach().numpy())


def test_recording_is_on_inside_and_as_before_outside() -> None:
    x = tensor(2)
    with ct.no_grad():
        close(ct.jacobian(lambda t: t * t, x), np.diag(2 * x.numpy()))
        assert not ct.is_grad_enabled()
    with pytest.raises(ZeroDivisionError):
        ct.hessian(lambda t: 1 / 0, x)
    assert not ct.jacobian(lambda t: t * t, x).requires_grad  # the failure left no trace


# -- value_and_grad


def test_value_and_grad() -> None:
    params = {"w": tensor(3), "b": tensor(1)}

    def loss(p, x, scale=1.0):
        return ((p["w"] * x).sum() + p["b"][0]) * scale

    x = tensor(3)
    value, g = ct.value_and_grad(loss)(params, x, scale=2.0)
    close(value, loss(params, x, 2.0))
    close(g["w"], 2 * x.numpy())
    close(g["b"], [2.0])
    _, (gx, gp) = ct.value_and_grad(loss, (1, 0))(params, x)
    close(gx, params["w"])
    close(gp["b"], [1.0])
    (value, aux), _ = ct.value_and_grad(lambda t: (t.sum(), "aux"), has_aux=True)(x)
    assert aux == "aux"
    assert not value.requires_grad
    close(ct.value_and_grad(lambda a, t: t.sum(), -1)("text", x)[1], np.ones(3))


def test_value_and_grad_agrees_with_grad() -> None:
    x = tensor(4).requires_grad_()
    _, g = ct.value_and_grad(lambda t: mixed(t).sum())(x)
    close(g, ct.grad(mixed(x).sum(), x))


def test_value_and_grad_errors() -> None:
    with pytest.raises(ValueError, match=r"argnums 2 is out of range for 1"):
        ct.value_and_grad(lambda x: x.sum(), 2)(tensor(1))
    with pytest.raises(TypeError, match=r"pair \(value, aux\)"):
        ct.value_and_grad(lambda x: x.sum(), has_aux=True)(tensor(1))
    with pytest.raises(ValueError, match=r"\[value_and_grad\] fn must return one tensor of one element"):
        ct.value_and_grad(lambda x: x)(tensor(2))
