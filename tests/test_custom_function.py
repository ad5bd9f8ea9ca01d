"""Operations written in Python: gradients of every order, arguments and results, lifetime, threads, errors."""

from __future__ import annotations

import gc
import threading
import weakref

import numpy as np
import pytest

import corten as ct
from corten.autograd import Function, gradcheck, gradgradcheck, once_differentiable


def leaf(values, dtype: str = "float64") -> ct.Tensor:
    return ct.tensor(values, dtype=dtype, requires_grad=True)


class Cube(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x * x

    @staticmethod
    def backward(ctx, g):
        (x,) = ctx.saved_tensors
        return g * 3 * x * x


class Exp(Function):
    """Saves its output."""

    @staticmethod
    def forward(ctx, x):
        y = ct.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx, g):
        (y,) = ctx.saved_tensors
        return g * y


class Affine(Function):
    """Several inputs, a number and a text among them, and two outputs."""

    @staticmethod
    def forward(ctx, x, scale, w, name):
        ctx.scale = scale
        ctx.save_for_backward(x, None, w)
        assert name == "name"
        return x * w * scale, x + w

    @staticmethod
    def backward(ctx, g, h):
        x, nothing, w = ctx.saved_tensors
        assert nothing is None
        return g * w * ctx.scale + h, None, g * x * ctx.scale + h, None


# -- gradients


@pytest.mark.parametrize("fn", [Cube, Exp])
def test_gradients_of_first_second_and_third_order(fn) -> None:
    x = leaf([0.5, -1.25, 2.0])
    assert gradcheck(fn.apply, x)
    assert gradgradcheck(fn.apply, x)

    def second(t):
        (g,) = ct.grad([fn.apply(t).sum()], [t], create_graph=True)
        return ct.grad([g.sum()], [t], create_graph=True)[0]

    assert gradcheck(second, x)


def test_fourth_derivative_of_the_exponential() -> None:
    x = leaf(0.7)
    y = Exp.apply(x)
    for _ in range(4):
        y = ct.grad(y, x, create_graph=True)
    assert y.item() == pytest.approx(np.exp(0.7), rel=1e-14)


def test_several_inputs_and_outputs() -> None:
    x, w = leaf([1.0, 2.0]), leaf([3.0, -4.0])
    assert gradcheck(lambda a, b: list(Affine.apply(a, 2.5, b, "name")), [x, w])
    assert gradgradcheck(lambda a, b: list(Affine.apply(a, 2.5, b, "name")), [x, w])
    y, z = Affine.apply(x, 2.0, w, "name")
    assert y.tolist() == [6.0, -16.0]
    assert y.grad_fn == z.grad_fn == "Affine"
    z.sum().backward()  # the gradient of the other output is zero
    assert x.grad.tolist() == [1.0, 1.0]


def test_strided_and_broadcast_inputs() -> None:
    base = leaf(np.arange(12.0).reshape(3, 4) / 7)
    assert gradcheck(Cube.apply, [ct.permute_dims(base, (1, 0))[::2]])
    assert gradcheck(Cube.apply, [ct.broadcast_to(leaf([1.0, 2.0]), (3, 2))])
    # Whoever summed a broadcast axis twice, or not at all, would be off by the factor 5.
    g = ct.grad(Cube.apply(ct.broadcast_to(base[:1], (5, 4)).mT).sum(), base)
    wanted = ct.grad((ct.broadcast_to(base[:1], (5, 4)).mT ** 3).sum(), base)
    np.testing.assert_allclose(g.numpy(), wanted.numpy(), rtol=1e-14)


def test_within_a_graph_and_in_training() -> None:
    x = leaf([1.0, 2.0])
    ((Cube.apply(x.sin()) + x) * 2).sum().backward()
    s, c = np.sin([1.0, 2.0]), np.cos([1.0, 2.0])
    np.testing.assert_allclose(x.grad.numpy(), 2 * (3 * s**2 * c + 1), rtol=1e-13)  # a difference of 2 and -2.06


def test_gradcheck_sees_a_wrong_backward() -> None:
    class Wrong(Cube):
        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * 2 * x * x

    with pytest.raises(RuntimeError, match=r"input 0 .*element 0 \(0,\).*0\.6667 times the difference everywhere"):
        gradcheck(Wrong.apply, leaf([1.0, 2.0]))

    class Negative(Cube):
        @staticmethod
        def backward(ctx, g):
            return -Cube.backward(ctx, g)

    with pytest.raises(RuntimeError, match="sign is wrong"):
        gradcheck(Negative.apply, leaf([1.0, 2.0]))

    class Constant(Cube):
        """Right at first order; its second order is lost in a detach."""

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * (3 * x * x).detach()

    assert gradcheck(Constant.apply, leaf([1.0, 2.0]))
    with pytest.raises(RuntimeError, match=r"gradient 0, .*0 everywhere"):
        gradgradcheck(Constant.apply, leaf([1.0, 2.0]))


def test_needs_input_grad_tells_what_is_wanted() -> None:
    seen = []

    class Product(Function):
        @staticmethod
        def forward(ctx, x, w):
            seen.append(ctx.needs_input_grad)
            ctx.save_for_backward(x, w)
            return x * w

        @staticmethod
        def backward(ctx, g):
            seen.append(ctx.needs_input_grad)
            x, w = ctx.saved_tensors
            return (g * w if ctx.needs_input_grad[0] else None), (g * x if ctx.needs_input_grad[1] else None)

    x, w = leaf([2.0]), ct.tensor([3.0], dtype="float64")
    Product.apply(x, w).sum().backward()
    assert seen == [(True, False)] * 2
    seen.clear()
    w.requires_grad_()
    assert ct.grad(Product.apply(x, w).sum(), w).tolist() == [2.0]
    assert seen == [(True, True), (False, True)]
    seen.clear()
    with ct.no_grad():
        assert not Product.apply(x, w).requires_grad
    assert seen == [(False, False)]


def test_non_differentiable_and_integer_outputs() -> None:
    class Largest(Function):
        @staticmethod
        def forward(ctx, x):
            index, rank = x.argmax(), x * 0.0
            ctx.mark_non_differentiable(rank)
            ctx.save_for_backward(index)
            ctx.size = x.size
            return x.max(), index, rank

        @staticmethod
        def backward(ctx, g, no_index, no_rank):
            assert no_index is None
            assert no_rank.tolist() == [0.0, 0.0, 0.0]
            return g * ct.one_hot(ctx.saved_tensors[0], ctx.size).astype(g.dtype)

    x = leaf([1.0, 5.0, 2.0])
    y, index, rank = Largest.apply(x)
    assert (y.requires_grad, index.requires_grad, rank.requires_grad) == (True, False, False)
    y.backward()
    assert x.grad.tolist() == [0.0, 1.0, 0.0]
    assert "Largest" in ct.why_no_grad(rank)


def test_gradients_that_do_not_come_are_zeros_or_none() -> None:
    seen = []

    class Two(Function):
        @staticmethod
        def forward(ctx, x, materialize):
            ctx.set_materialize_grads(materialize)
            return x * 1.0, x * 2.0

        @staticmethod
        def backward(ctx, g, h):
            seen.append(h)
            return g, None

    x = leaf([1.0, 2.0])
    Two.apply(x, False)[0].sum().backward()
    Two.apply(x, True)[0].sum().backward()
    assert seen[0] is None
    assert seen[1].tolist() == [0.0, 0.0]


def test_returning_an_input_and_saving_it() -> None:
    class Reverse(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x

        @staticmethod
        def backward(ctx, g):
            return -g * ctx.saved_tensors[0]

    x = leaf([2.0, 3.0])
    y = Reverse.apply(x)
    assert y is not x
    assert y.grad_fn == "Reverse"
    y.sum().backward()
    assert x.grad.tolist() == [-2.0, -3.0]
    with ct.no_grad():
        assert not Reverse.apply(x).requires_grad


def test_a_list_as_result_and_state_kept_between_passes() -> None:
    class Counted(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.passes = 0
            return [x * 2.0]

        @staticmethod
        def backward(ctx, g):
            ctx.passes += 1
            return g * 2.0 * ctx.passes

    x = leaf([1.0])
    (y,) = Counted.apply(x)
    y.backward(ct.tensor([1.0], dtype="float64"), retain_graph=True)
    y.backward(ct.tensor([1.0], dtype="float64"))
    assert x.grad.tolist() == [6.0]


def test_values_saved_before_a_write_are_the_old_ones() -> None:
    x = leaf([2.0])
    y = Cube.apply(x)
    x.assign_(ct.tensor([100.0], dtype="float64"))
    y.backward(ct.tensor([1.0], dtype="float64"))
    assert x.grad.tolist() == [12.0]


def test_once_differentiable() -> None:
    class Sine(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return ct.tensor(np.sin(x.detach().numpy()))

        @staticmethod
        @once_differentiable
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return ct.tensor(g.numpy() * np.cos(x.numpy()))

    x = leaf([0.3, 0.6])
    assert gradcheck(Sine.apply, x)
    g = ct.grad(Sine.apply(x).sum(), x, create_graph=True)
    np.testing.assert_allclose(g.detach().numpy(), np.cos([0.3, 0.6]), rtol=1e-14)
    with pytest.raises(RuntimeError, match=r"\[Sine\].*once_differentiable"):
        g.sum().backward()


# -- lifetime and threads


class Token:
    """Something that weak references can watch."""


@pytest.mark.parametrize("kept", ["input", "output", "attribute"])
@pytest.mark.parametrize("backward", [False, True])
def test_no_cycle_keeps_a_graph_alive(kept: str, backward: bool) -> None:
    """Reference counting alone frees it: what a node keeps never leads back to the node."""

    class Keeps(Function):
        @staticmethod
        def forward(ctx, x, token):
            y = x * 2.0
            ctx.token = token
            if kept == "attribute":
                ctx.y = y
            else:
                ctx.save_for_backward(x if kept == "input" else y)
            return y

        @staticmethod
        def backward(ctx, g):
            return g * 2.0, None

    gc.collect()
    gc.disable()
    try:
        token = Token()
        alive = weakref.ref(token)
        x = leaf([1.0])
        y = Keeps.apply(x, token).sum()
        del token
        assert alive() is not None
        if backward:
            y.backward()  # frees what the nodes saved, though y lives on
        else:
            del y
        assert alive() is None
    finally:
        gc.enable()


def test_create_graph_leaves_nothing_behind() -> None:
    token = Token()
    alive = weakref.ref(token)

    class Keeps(Exp):
        @staticmethod
        def forward(ctx, x, token):
            ctx.token = token
            return Exp.forward(ctx, x)

        @staticmethod
        def backward(ctx, g):
            return Exp.backward(ctx, g), None

    x = leaf([1.0])
    g = ct.grad(Keeps.apply(x, token).sum(), x, create_graph=True)
    del token
    h = ct.grad(g.sum(), x)
    assert h.item() == pytest.approx(np.e)
    del g
    gc.collect()
    assert alive() is None


def test_many_threads_at_once() -> None:
    """The engine runs without the interpreter lock; the callback takes it, from whichever thread."""
    x = leaf(np.linspace(-1, 1, 200))
    y = Cube.apply(x).sum()  # one graph for all, too
    results: list[list[float]] = []

    def work() -> None:
        for _ in range(20):
            z = Cube.apply(Exp.apply(x)).sum()
            results.append(ct.grad(z, x).tolist())
            results.append(ct.grad(y, x, retain_graph=True).tolist())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert len(results) == 160
    first = np.sort(np.array(results), axis=0)
    assert len({tuple(r) for r in results}) == 2, first[:2]


def test_backward_in_another_thread_and_inside_a_backward() -> None:
    class Inner(Function):
        """Asks for a gradient of its own in its backward."""

        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * x

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return g * ct.value_and_grad(lambda t: Cube.apply(t).sum() * 0 + (t * t).sum())(x)[1]

    x = leaf([3.0, -1.0])
    thread = threading.Thread(target=Inner.apply(x).sum().backward)
    thread.start()
    thread.join(60)
    assert x.grad.tolist() == [6.0, -2.0]


# -- errors


def broken(backward, forward=None):
    class Broken(Function):
        @staticmethod
        def forward(ctx, x, w, k):
            return x * w if forward is None else forward(x, w)

    Broken.backward = staticmethod(backward)
    return Broken


BAD = {
    "too few": (
        lambda ctx, g: (g, g),
        ValueError,
        r"\[Broken\] backward must return one gradient per argument.*3 in all.*got 2",
    ),
    "a single one": (lambda ctx, g: g, ValueError, r"\[Broken\].*3 in all.*got 1"),
    "nothing": (lambda ctx, g: None, ValueError, r"\[Broken\].*got 1"),
    "a shape": (
        lambda ctx, g: (g, ct.broadcast_to(g, (2, 3)), None),
        ValueError,
        r"\[Broken\] gradient 1 must have the shape \(3,\).*got \(2, 3\) \(sum over",
    ),
    "a dtype": (
        lambda ctx, g: (g.astype("float32"), g, None),
        TypeError,
        r"\[Broken\] gradient 0 must have the dtype float64.*got float32",
    ),
    "no tensor": (lambda ctx, g: (g, 1.0, None), TypeError, r"\[Broken\].*gradient 1 is float"),
    "for a number": (lambda ctx, g: (g, g, g), RuntimeError, r"\[Broken\] backward must return None as gradient 2"),
    "a text": (lambda ctx, g: "abc", TypeError, r"\[Broken\] backward must return a tensor or a tuple"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_gradients_are_named(case: str) -> None:
    backward, error, text = BAD[case]
    x, w = leaf([1.0, 2.0, 3.0]), leaf([4.0, 5.0, 6.0])
    with pytest.raises(error, match=text):
        broken(backward).apply(x, w, 2).sum().backward()
    assert x.grad is None
    (x * 2.0).sum().backward()  # everything stays usable
    assert x.grad.tolist() == [2.0, 2.0, 2.0]


@pytest.mark.parametrize("result", [None, 3.0, (1.0, 2.0)])
def test_wrong_results_are_named(result) -> None:
    with pytest.raises(TypeError, match=r"\[Broken\] forward must return"):
        broken(lambda ctx, g: (g, g, None), lambda x, w: result).apply(leaf([1.0]), leaf([1.0]), 2)


def test_exceptions_of_the_user_pass_unchanged() -> None:
    class Mine(Exception):
        pass

    mine = Mine("mine")

    def raises(*_):
        raise mine

    with pytest.raises(Mine) as caught:
        broken(None, raises).apply(leaf([1.0]), leaf([1.0]), 2)
    assert caught.value is mine
    with pytest.raises(Mine) as caught:
        broken(raises).apply(leaf([1.0]), leaf([1.0]), 2).sum().backward()
    assert caught.value is mine
    assert ct.is_grad_enabled()


def test_methods_that_are_missing() -> None:
    class Nothing(Function):
        pass

    class Half(Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1.0

    with pytest.raises(NotImplementedError, match=r"\[Nothing\].*forward"):
        Nothing.apply(leaf([1.0]))
    with pytest.raises(NotImplementedError, match=r"\[Half\].*backward"):
        Half.apply(leaf([1.0])).sum().backward()
    with pytest.raises(TypeError, match=r"\[Half\].*apply"):
        Half()


def test_save_and_mark_take_the_right_things() -> None:
    class Save(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x, 3)
            return x

    class Mark(Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_non_differentiable(x * 1.0)
            return x * 1.0

    with pytest.raises(TypeError, match=r"\[Save\] save_for_backward keeps tensors and None, got int"):
        Save.apply(leaf([1.0]))
    with pytest.raises(ValueError, match=r"\[Mark\] mark_non_differentiable"):
        Mark.apply(leaf([1.0]))
