"""Rows of the neural-network operations: softmax, linear, convolution, pooling, batch norm, dropout, optimizer steps.

The formulas are loops or sums over windows, written from the definitions, and share no idea with the kernels.
"""

from __future__ import annotations

import math

import numpy as np

from corten import _core
from op_table import CONTRACT, EXACT, FEW, SUMS, Row, State, Tol, bad, distinct, s

INF = math.inf


def pair(v):
    return (v, v) if isinstance(v, int) else tuple(v)


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def log_softmax(x, axis=-1):
    z = x - x.max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


def rows_and_columns(rng):
    n = rng.normal
    yield s(n(size=(3, 37)), label="last axis")
    yield s(n(size=(3, 4, 5)), 1, label="middle axis")
    yield s(n(size=(4, 3)), axis=0, label="first axis")
    yield s(n(size=(7,)), label="vector")
    yield s(1000 + n(size=(2, 5)), label="far from zero", grad=False)
    yield s(np.array([[0.0, -INF, 1.0], [-INF, -INF, 5.0]]), label="-inf scores", grad=False)
    yield s(n(size=(0, 3)), label="empty")
    yield s(n(size=(129, 130)), label="big", big=True)
    yield s(n(size=(65, 67)), axis=0, label="big columns", big=True)


def linear(x, weight, bias=None, activation="none"):
    y = np.einsum("...i,oi->...o", x, weight)
    y = y if bias is None else y + bias
    return np.maximum(y, 0) if activation == "relu" else y


def linears(rng):
    n = rng.normal
    yield s(n(size=(4, 5)), n(size=(3, 5)), n(size=(3,)), label="matrix")
    yield s(n(size=(4, 5)), n(size=(3, 5)), label="no bias")
    yield s(n(size=(5,)), n(size=(3, 5)), n(size=(3,)), label="vector")
    yield s(n(size=(2, 3, 5)), n(size=(7, 5)), n(size=(7,)), label="3-d")
    yield s(n(size=(0, 5)), n(size=(3, 5)), n(size=(3,)), label="empty batch")
    # A value lands within 1e-6 of the kink with a chance of 1e-6: the fixed seed avoids it.
    yield s(n(size=(4, 5)), n(size=(3, 5)), n(size=(3,)), activation="relu", label="relu")
    yield s(n(size=(64, 400)), n(size=(120, 400)) / 20, n(size=(120,)), label="big", big=True)
    yield s(n(size=(33, 129)), n(size=(10, 129)) / 11, n(size=(10,)), activation="relu", label="big relu", big=True)


def conv2d(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1, activation="none"):
    if x.ndim == 3:
        return conv2d(x[None], weight, bias, stride, padding, dilation, groups, activation)[0]
    (sh, sw), (dh, dw) = pair(stride), pair(dilation)
    images, _channels, _height, _width = x.shape
    outputs, per_group, kh, kw = weight.shape
    spans = (dh * (kh - 1), dw * (kw - 1))
    if padding == "valid":
        sides = [(0, 0), (0, 0)]
    elif padding == "same":
        sides = [(span // 2, span - span // 2) for span in spans]
    elif padding == "full":
        sides = [(span, span) for span in spans]
    else:
        sides = [(p, p) for p in pair(padding)]
    x = np.pad(x, [(0, 0), (0, 0), *sides])
    oh = (x.shape[2] - spans[0] - 1) // sh + 1
    ow = (x.shape[3] - spans[1] - 1) // sw + 1
    y = np.zeros((images, outputs, oh, ow))
    for k in range(outputs):
        first = k // (outputs // groups) * per_group
        for i in range(oh):
            for j in range(ow):
                window = x[
                    :,
                    first : first + per_group,
                    i * sh : i * sh + spans[0] + 1 : dh,
                    j * sw : j * sw + spans[1] + 1 : dw,
                ]
                y[:, k, i, j] = (window * weight[k]).sum(axis=(1, 2, 3))
    if bias is not None:
        y += bias[:, None, None]
    return np.maximum(y, 0) if activation == "relu" else y


def convolutions(rng):
    def xwb(x, w, bias=True):
        scale = math.sqrt(w[1] * w[2] * w[3])
        arrays = [rng.normal(size=x), rng.normal(size=w) / scale]
        return [*arrays, rng.normal(size=(w[0],))] if bias else arrays

    yield s(*xwb((2, 3, 5, 6), (4, 3, 3, 3)), label="plain")
    yield s(*xwb((2, 3, 5, 6), (4, 3, 3, 3), bias=False), label="no bias")
    yield s(*xwb((1, 1, 6, 7), (2, 1, 5, 5)), padding=2, label="5x5, padding 2")
    yield s(*xwb((2, 2, 7, 6), (3, 2, 3, 2)), stride=(2, 1), padding=(1, 0), label="stride, oblong kernel")
    yield s(*xwb((1, 2, 8, 8), (2, 2, 3, 3)), stride=3, label="stride 3 leaves a rest")
    yield s(*xwb((1, 2, 7, 8), (2, 2, 3, 2)), dilation=(2, 3), label="dilation")
    yield s(*xwb((1, 2, 9, 9), (2, 2, 3, 3)), dilation=2, stride=2, padding=1, label="dilation and stride")
    yield s(*xwb((2, 4, 5, 5), (6, 2, 3, 3)), groups=2, label="groups")
    yield s(*xwb((2, 3, 5, 5), (6, 1, 3, 3)), groups=3, padding=1, label="depthwise, multiplier 2")
    yield s(*xwb((2, 5, 3, 4), (3, 5, 1, 1)), label="1x1")
    yield s(*xwb((1, 2, 5, 4), (3, 2, 1, 1)), stride=2, label="1x1, stride 2")
    yield s(*xwb((1, 2, 5, 5), (2, 2, 3, 3)), padding="valid", label="valid")
    yield s(*xwb((1, 2, 5, 5), (2, 2, 4, 3)), padding="same", label="same, even kernel")
    yield s(*xwb((1, 2, 4, 5), (2, 2, 3, 2)), padding="full", label="full")
    yield s(*xwb((1, 2, 3, 3), (2, 2, 3, 3)), padding=3, label="padding beyond the kernel")
    yield s(*xwb((2, 2, 5, 5), (3, 2, 3, 3)), activation="relu", label="relu")
    yield s(*xwb((0, 2, 5, 5), (3, 2, 3, 3)), label="empty batch")
    yield s(*xwb((2, 5, 5), (3, 2, 3, 3)), padding=1, label="one image")
    yield s(*xwb((3, 1, 28, 28), (6, 1, 5, 5)), padding=2, activation="relu", label="LeNet 1", big=True)
    yield s(*xwb((3, 6, 14, 14), (16, 6, 5, 5)), activation="relu", label="LeNet 2", big=True)
    yield s(*xwb((2, 32, 9, 11), (33, 32, 3, 3)), padding=1, label="many channels", big=True)
    yield s(*xwb((1, 3, 33, 31), (17, 3, 7, 7)), stride=2, padding=3, label="stem", big=True)
    yield s(*xwb((1, 33, 15, 17), (33, 1, 3, 3)), groups=33, padding=1, label="depthwise", big=True)


def conv_transpose2d(x, weight, bias=None, stride=1, padding=0, output_padding=0, groups=1, dilation=1):
    """Every pixel lays its multiple of the kernel into the output."""
    if x.ndim == 3:
        return conv_transpose2d(x[None], weight, bias, stride, padding, output_padding, groups, dilation)[0]
    (sh, sw), (dh, dw), (ph, pw), (rh, rw) = map(pair, (stride, dilation, padding, output_padding))
    images, channels, height, width = x.shape
    _, per_group, kh, kw = weight.shape
    rows, columns = (height - 1) * sh + dh * (kh - 1) + 1 + rh, (width - 1) * sw + dw * (kw - 1) + 1 + rw
    y = np.zeros((images, per_group * groups, max(rows, 2 * ph), max(columns, 2 * pw)))
    for c in range(channels):
        first = c // (channels // groups) * per_group
        for i, j, u, v in np.ndindex(height, width, kh, kw):
            part = x[:, c, i, j, None] * weight[c, :, u, v]
            y[:, first : first + per_group, i * sh + u * dh, j * sw + v * dw] += part
    y = y[:, :, ph : rows - ph, pw : columns - pw]
    return y if bias is None else y + bias[:, None, None]


def transposed_convolutions(rng):
    def xwb(x, w, groups=1, bias=True):
        scale = math.sqrt(w[0] * w[2] * w[3] / groups)
        arrays = [rng.normal(size=x), rng.normal(size=w) / scale]
        return [*arrays, rng.normal(size=(w[1] * groups,))] if bias else arrays

    yield s(*xwb((2, 3, 4, 3), (3, 2, 3, 3)), label="plain")
    yield s(*xwb((2, 3, 4, 3), (3, 2, 3, 3), bias=False), label="no bias")
    yield s(*xwb((1, 2, 3, 4), (2, 2, 3, 2)), stride=(2, 1), padding=(1, 0), label="stride, oblong kernel")
    yield s(*xwb((1, 2, 3, 3), (2, 2, 3, 3)), stride=2, padding=1, output_padding=1, label="doubles the size")
    yield s(*xwb((1, 2, 3, 3), (2, 1, 2, 2)), stride=3, output_padding=(2, 1), label="stride beyond the kernel")
    yield s(*xwb((1, 2, 3, 2), (2, 2, 2, 3)), dilation=(3, 2), output_padding=(2, 1), label="dilation")
    yield s(*xwb((1, 4, 3, 3), (4, 2, 2, 2), 2), stride=2, groups=2, label="groups")
    yield s(*xwb((1, 3, 3, 3), (3, 1, 2, 2), 3), groups=3, padding=1, label="depthwise")
    yield s(*xwb((1, 3, 3, 4), (3, 2, 1, 1)), label="1x1")
    yield s(*xwb((0, 2, 3, 3), (2, 2, 3, 3)), label="empty batch")
    yield s(*xwb((2, 3, 3), (2, 2, 3, 3)), stride=2, label="one image")
    yield s(*xwb((2, 16, 7, 7), (16, 8, 4, 4)), stride=2, padding=1, label="generator", big=True)
    yield s(*xwb((1, 33, 9, 11), (33, 5, 3, 3)), padding=1, label="many channels", big=True)


def out_length(length, k, stride, pad, dilation, ceil_mode):
    """torch's rule: a last window must start inside the input or the left padding."""
    rest = length + 2 * pad - dilation * (k - 1) - 1
    n = (-(-rest // stride) if ceil_mode else rest // stride) + 1
    return n - 1 if ceil_mode and (n - 1) * stride >= length + pad else n


def windows(x, kernel_size, stride, padding, dilation, ceil_mode):
    """For every output place: (i, j, rows, columns) of the taps, in coordinates of the unpadded input."""
    kernel, dil, pad = pair(kernel_size), pair(dilation), pair(padding)
    step = kernel if stride is None else pair(stride)
    oh, ow = (out_length(x.shape[2 + a], kernel[a], step[a], pad[a], dil[a], ceil_mode) for a in (0, 1))
    for i in range(oh):
        for j in range(ow):
            rows = [i * step[0] - pad[0] + t * dil[0] for t in range(kernel[0])]
            columns = [j * step[1] - pad[1] + t * dil[1] for t in range(kernel[1])]
            yield i, j, rows, columns, (oh, ow)


def max_pool2d(x, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False):
    if x.ndim == 3:
        return max_pool2d(x[None], kernel_size, stride, padding, dilation, ceil_mode)[0]
    y = None
    for i, j, rows, columns, size in windows(x, kernel_size, stride, padding, dilation, ceil_mode):
        y = np.zeros((*x.shape[:2], *size)) if y is None else y
        taps = [x[:, :, r, c] for r in rows for c in columns if 0 <= r < x.shape[2] and 0 <= c < x.shape[3]]
        y[:, :, i, j] = np.max(taps, axis=0)
    return y


def avg_pool2d(x, kernel_size, stride=None, padding=0, ceil_mode=False, count_include_pad=True):
    if x.ndim == 3:
        return avg_pool2d(x[None], kernel_size, stride, padding, ceil_mode, count_include_pad)[0]
    y, pad = None, pair(padding)
    for i, j, rows, columns, size in windows(x, kernel_size, stride, padding, 1, ceil_mode):
        y = np.zeros((*x.shape[:2], *size)) if y is None else y
        taps = [x[:, :, r, c] for r in rows for c in columns if 0 <= r < x.shape[2] and 0 <= c < x.shape[3]]
        # Places of the window inside the padded input: what lies beyond (ceil_mode) never counts.
        inside = sum(r < x.shape[2] + pad[0] for r in rows) * sum(c < x.shape[3] + pad[1] for c in columns)
        y[:, :, i, j] = np.sum(taps, axis=0) / (inside if count_include_pad else len(taps))
    return y


def adaptive_avg_pool2d(x, output_size):
    if x.ndim == 3:
        return adaptive_avg_pool2d(x[None], output_size)[0]
    oh, ow = (n if m is None else m for m, n in zip(pair(output_size), x.shape[2:], strict=True))
    y = np.zeros((*x.shape[:2], oh, ow))
    for i in range(oh):
        for j in range(ow):
            rows = slice(i * x.shape[2] // oh, -(-(i + 1) * x.shape[2] // oh))
            columns = slice(j * x.shape[3] // ow, -(-(j + 1) * x.shape[3] // ow))
            y[:, :, i, j] = x[:, :, rows, columns].mean(axis=(2, 3))
    return y


def adaptive_max_pool2d(x, output_size):
    if x.ndim == 3:
        return adaptive_max_pool2d(x[None], output_size)[0]
    oh, ow = (n if m is None else m for m, n in zip(pair(output_size), x.shape[2:], strict=True))
    y = np.zeros((*x.shape[:2], oh, ow))
    for i, j in np.ndindex(oh, ow):
        rows = slice(i * x.shape[2] // oh, -(-(i + 1) * x.shape[2] // oh))
        columns = slice(j * x.shape[3] // ow, -(-(j + 1) * x.shape[3] // ow))
        y[:, :, i, j] = x[:, :, rows, columns].max(axis=(2, 3))
    return y


def adaptive_max_pools(rng):
    def d(*shape):
        return distinct(rng, shape)

    yield s(d(2, 3, 6, 8), 1, label="global")
    yield s(d(3, 6, 8), 2, label="one image")
    yield s(d(2, 3, 6, 8), (3, 4), label="divides")
    yield s(d(1, 2, 7, 5), 3, label="windows overlap")
    yield s(d(1, 2, 3, 2), (5, 4), label="grows")
    yield s(d(1, 2, 5, 6), (None, 2), label="None keeps")
    yield s(np.array([[[[1.0, math.nan, 0.0], [3.0, 4.0, 2.0]]]]), (1, 2), label="nan wins", grad=False)
    yield s(d(2, 5, 33, 31), (7, 5), label="big", big=True)


def max_pools(rng):
    def d(*shape):
        return distinct(rng, shape)

    yield s(d(2, 3, 6, 6), 2, label="2x2")
    yield s(d(2, 3, 7, 5), 2, label="2x2 leaves a rest")
    yield s(d(1, 2, 7, 8), 3, 2, label="overlapping")
    yield s(d(1, 2, 7, 8), (3, 2), (1, 2), label="oblong")
    yield s(d(1, 2, 6, 6), 3, stride=1, padding=1, label="padding")
    yield s(-1 - np.abs(d(1, 2, 4, 4)), 3, stride=2, padding=1, label="padding never wins", grad=False)
    yield s(d(1, 2, 8, 7), 2, dilation=3, stride=1, label="dilation")
    yield s(d(1, 2, 6, 7), 2, 2, ceil_mode=True, label="ceil mode")
    yield s(d(1, 1, 5, 5), 2, 3, padding=1, ceil_mode=True, label="ceil mode, last window dropped")
    yield s(d(1, 1, 5, 6), 1, label="1x1")
    yield s(d(2, 5, 6), 2, label="one image")
    yield s(d(1, 2, 4, 4), 4, label="global")
    yield s(np.array([[[[1.0, math.nan], [3.0, 4.0]]]]), 2, label="nan wins", grad=False)
    yield s(d(5, 6, 28, 28), 2, label="LeNet", big=True)
    yield s(d(2, 5, 33, 31), 3, 2, 1, label="big overlapping", big=True)


def avg_pools(rng):
    n = rng.normal
    yield s(n(size=(2, 3, 6, 6)), 2, label="2x2")
    yield s(n(size=(3, 6, 6)), 2, label="one image")
    yield s(n(size=(1, 2, 7, 5)), 2, label="2x2 leaves a rest")
    yield s(n(size=(1, 2, 7, 8)), 3, 2, label="kernel != stride")
    yield s(n(size=(1, 2, 7, 8)), (3, 2), (1, 2), label="oblong")
    yield s(n(size=(1, 2, 6, 6)), 3, 2, 1, label="padding counts")
    yield s(n(size=(1, 2, 6, 6)), 3, 2, 1, count_include_pad=False, label="padding does not count")
    yield s(n(size=(1, 2, 6, 7)), 2, 2, ceil_mode=True, label="ceil mode")
    yield s(n(size=(1, 1, 6, 7)), 3, 2, 1, ceil_mode=True, label="ceil mode, padding")
    yield s(
        n(size=(1, 1, 5, 5)), 2, 3, 1, ceil_mode=True, count_include_pad=False, label="ceil mode, last window dropped"
    )
    yield s(n(size=(5, 6, 28, 28)), 2, label="big", big=True)


def adaptive_pools(rng):
    n = rng.normal
    yield s(n(size=(2, 3, 6, 8)), 1, label="global")
    yield s(n(size=(3, 6, 8)), 2, label="one image")
    yield s(n(size=(2, 3, 6, 8)), (3, 4), label="divides")
    yield s(n(size=(1, 2, 7, 5)), 3, label="windows overlap")
    yield s(n(size=(1, 2, 3, 2)), (5, 4), label="grows")
    yield s(n(size=(1, 2, 5, 6)), (None, 2), label="None keeps")


def batch_norm(x, running_mean=None, running_var=None, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    others = (0, *range(2, x.ndim))
    mean, var = (x.mean(axis=others), x.var(axis=others)) if training else (running_mean, running_var)
    column = (slice(None), *[None] * (x.ndim - 2))
    y = (x - mean[column]) / np.sqrt(var[column] + eps)
    y = y if weight is None else y * weight[column]
    return y if bias is None else y + bias[column]


def batch_norms(rng):
    n = rng.normal

    def state(c):
        return State(n(size=(c,))), State(rng.uniform(0.5, 2, size=(c,)))

    yield s(n(size=(5, 3)), *state(3), n(size=(3,)), n(size=(3,)), training=True, label="(N, C), training")
    yield s(n(size=(3, 2, 3, 4)), *state(2), n(size=(2,)), n(size=(2,)), training=True, label="(N, C, H, W), training")
    yield s(
        n(size=(4, 2, 5)),
        *state(2),
        n(size=(2,)),
        n(size=(2,)),
        training=True,
        momentum=0.3,
        eps=0.1,
        label="(N, C, L), training",
    )
    yield s(n(size=(5, 3)), training=True, label="no weight, no statistics")
    yield s(n(size=(5, 3)), *state(3), n(size=(3,)), n(size=(3,)), label="(N, C), inference")
    yield s(n(size=(3, 2, 3, 4)), *state(2), label="(N, C, H, W), inference, no weight")
    yield s(100 + n(size=(64, 3)), training=True, label="far from zero", grad=False)
    yield s(n(size=(9, 16, 7, 11)), *state(16), n(size=(16,)), n(size=(16,)), training=True, label="big", big=True)


def seeded_dropout(x, *args, **kwargs):
    _core.manual_seed(7)
    return _core.dropout(x, *args, **kwargs)


def dropout(x, p=0.5, training=True):
    """The mask is the generator's business (test_ops checks its statistics): read off ones, then applied as defined."""
    if not training:
        return x
    kept = seeded_dropout(_core.ones(x.shape, dtype="float64"), p).numpy() != 0
    return np.where(kept, x / (1 - p) if p < 1 else 0.0, 0.0)


def step_sgd(params, grads, buffers, **kwargs):
    params, buffers = [p.clone() for p in params], buffers and [b.clone() for b in buffers]
    _core.sgd_step(params, grads, buffers, **kwargs)
    return [*params, *(buffers or [])]


def sgd(
    params,
    grads,
    buffers,
    *,
    lr,
    momentum=0.0,
    dampening=0.0,
    weight_decay=0.0,
    nesterov=False,
    maximize=False,
    first=False,
):
    new, state = [], []
    for index, (p, g) in enumerate(zip(params, grads, strict=True)):
        g = (-g if maximize else g) + weight_decay * p
        if momentum:
            b = g if first else momentum * buffers[index] + (1 - dampening) * g
            state.append(b)
            g = g + momentum * b if nesterov else b
        new.append(p - lr * g)
    return [*new, *state]


def step_adam(params, grads, firsts, seconds, **kwargs):
    params, firsts, seconds = ([t.clone() for t in group] for group in (params, firsts, seconds))
    _core.adam_step(params, grads, firsts, seconds, **kwargs)
    return [*params, *firsts, *seconds]


def adam(
    params,
    grads,
    firsts,
    seconds,
    *,
    step,
    lr=1e-3,
    beta1=0.9,
    beta2=0.999,
    eps=1e-8,
    weight_decay=0.0,
    decoupled=False,
    maximize=False,
):
    new, ms, vs = [], [], []
    for p, g, m, v in zip(params, grads, firsts, seconds, strict=True):
        g = -g if maximize else g
        if decoupled:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g
        ms.append(m)
        vs.append(v)
        new.append(p - lr * (m / (1 - beta1**step)) / (np.sqrt(v / (1 - beta2**step)) + eps))
    return [*new, *ms, *vs]


def step_rmsprop(params, grads, squares, means, buffers, **kwargs):
    kept = [params, squares, *(group for group in (means, buffers) if group)]
    kept = [[t.clone() for t in group] for group in kept]
    state = iter(kept[1:])
    args = [next(state), next(state) if means else None, next(state) if buffers else None]
    _core.rmsprop_step(kept[0], grads, *args, **kwargs)
    return [t for group in kept for t in group]


def rmsprop(
    params,
    grads,
    squares,
    means,
    buffers,
    *,
    lr=1e-2,
    alpha=0.99,
    eps=1e-8,
    weight_decay=0.0,
    momentum=0.0,
    maximize=False,
):
    new, vs, ms, bs = [], [], [], []
    for i, (p, g) in enumerate(zip(params, grads, strict=True)):
        g = (-g if maximize else g) + weight_decay * p
        v = alpha * squares[i] + (1 - alpha) * g * g
        vs.append(v)
        if means:
            m = alpha * means[i] + (1 - alpha) * g
            ms.append(m)
            v = np.maximum(v - m * m, 0)
        d = g / (np.sqrt(v) + eps)
        if momentum:
            d = momentum * buffers[i] + d
            bs.append(d)
        new.append(p - lr * d)
    return [*new, *vs, *ms, *bs]


def steps(rng, groups):
    """Parameters of odd sizes with what goes along; `groups` many lists of arrays, the last one positive."""
    shapes = [(3, 5), (1,), (129,), (0,)]
    lists = [[State(rng.normal(size=shape)) for shape in shapes] for _ in range(groups)]
    lists[-1] = [State(np.abs(a.array)) for a in lists[-1]]
    return lists


def sgd_steps(rng):
    p, g, b = steps(rng, 3)
    yield s(p, g, None, lr=0.125, label="plain")
    yield s(p, g, None, lr=0.125, weight_decay=0.25, maximize=True, label="decay, maximize")
    yield s(p, g, b, lr=0.125, momentum=0.875, label="momentum")
    yield s(p, g, b, lr=0.125, momentum=0.875, dampening=0.5, weight_decay=0.25, label="dampening")
    yield s(p, g, b, lr=0.125, momentum=0.875, nesterov=True, label="nesterov")
    yield s(p, g, b, lr=0.125, momentum=0.875, dampening=0.5, first=True, label="first step")


def adam_steps(rng):
    p, g, m, v = steps(rng, 4)
    yield s(p, g, m, v, step=1, label="first")
    yield s(p, g, m, v, step=7, lr=0.125, beta1=0.75, beta2=0.875, eps=0.125, label="options")
    yield s(p, g, m, v, step=3, weight_decay=0.25, label="L2")
    yield s(p, g, m, v, step=3, lr=0.125, weight_decay=0.25, decoupled=True, maximize=True, label="AdamW, maximize")


def rmsprop_steps(rng):
    p, g, b, m, v = steps(rng, 5)
    # A mean of squares is above the square of the mean; an eps of 1/8 keeps the loss of digits in the difference small.
    m = [State(a.array * 0.125) for a in m]
    yield s(p, g, v, None, None, label="plain")
    yield s(p, g, v, None, None, lr=0.125, alpha=0.75, eps=0.125, weight_decay=0.25, maximize=True, label="options")
    yield s(p, g, v, None, b, lr=0.125, alpha=0.75, eps=0.125, momentum=0.875, label="momentum")
    yield s(p, g, v, m, None, lr=0.125, alpha=0.75, eps=0.125, label="centered")
    yield s(p, g, v, m, b, lr=0.125, alpha=0.75, eps=0.125, momentum=0.875, weight_decay=0.25, label="all")


X, W, V = np.ones((2, 3, 5, 5)), np.ones((4, 3, 3, 3)), np.ones((3, 4, 3, 3))
# lr, betas and eps such as 0.9 or 1e-3 are rounded to float32: 6e-8 each, times |m| + |g| <= 4; Adam divides twice.
OPTIMIZER = Tol(
    (2e-6, 2e-6), (1e-13, 1e-13), "attributes round to the parameter's dtype; about ten operations on values of order 1"
)


def softmax_bad(name):
    return (bad(IndexError, rf"\[{name}\].*axis 2", np.ones((2, 3)), 2), bad(TypeError, r".+", "text"))


ROWS = [
    Row("softmax", rows_and_columns, softmax, FEW, softmax_bad("softmax")),
    Row(
        "log_softmax",
        rows_and_columns,
        log_softmax,
        Tol((2e-6, 4e-6), (1e-14, 1e-14), "x - max - log(sum): absolute error of a few u |x|"),
        softmax_bad("log_softmax"),
    ),
    Row(
        "linear",
        linears,
        linear,
        CONTRACT,
        (
            bad(ValueError, r"\[linear\].*4 features.*\(5, 3\).*3.*\(2, 4\)", np.ones((2, 4)), np.ones((5, 3))),
            bad(ValueError, r"\[linear\].*bias.*\(4,\)", np.ones((2, 3)), np.ones((5, 3)), np.ones(4)),
            bad(ValueError, r"\[linear\].*weight", np.ones((2, 3)), np.ones(3)),
            bad(ValueError, r"\[linear\].*activation", np.ones((2, 3)), np.ones((5, 3)), activation="swish"),
        ),
    ),
    Row(
        "conv2d",
        convolutions,
        conv2d,
        CONTRACT,
        (
            bad(ValueError, r"\[conv2d\].*3 channels.*2.*\(2, 3, 5, 5\)", X, np.ones((4, 2, 3, 3))),
            bad(ValueError, r"\[conv2d\].*\(N, C, H, W\)", np.ones((5, 5)), W),
            bad(ValueError, r"\[conv2d\].*groups", X, np.ones((4, 1, 3, 3)), groups=2),
            bad(ValueError, r"\[conv2d\].*groups", X, W, groups=0),
            bad(ValueError, r"\[conv2d\].*stride", X, W, stride=0),
            bad(ValueError, r"\[conv2d\].*dilation", X, W, dilation=0),
            bad(ValueError, r"-1[\s\S]*padding", X, W, padding=-1),
            bad(ValueError, r"\[conv2d\].*padding.*(same|valid|full)", X, W, padding="circular"),
            bad(ValueError, r"\[conv2d\].*bias", X, W, np.ones(3)),
            bad(ValueError, r"\[conv2d\].*(kernel|window).*", X, np.ones((4, 3, 7, 7))),
            bad(ValueError, r"\[conv2d\].*activation", X, W, activation="gelu?"),
        ),
    ),
    Row(
        "conv_transpose2d",
        transposed_convolutions,
        conv_transpose2d,
        CONTRACT,
        (
            bad(ValueError, r"\[conv_transpose2d\].*3 channels.*expects 4", X, W),
            bad(ValueError, r"\[conv_transpose2d\].*\(N, C, H, W\)", np.ones((5, 5)), V),
            bad(ValueError, r"\[conv_transpose2d\].*\(C, O/groups, KH, KW\)", X, np.ones((3, 4))),
            bad(ValueError, r"\[conv_transpose2d\].*groups must divide the 3", X, V, groups=2),
            bad(ValueError, r"\[conv_transpose2d\].*groups", X, V, groups=0),
            bad(ValueError, r"\[conv_transpose2d\].*stride", X, V, stride=0),
            bad(ValueError, r"\[conv_transpose2d\].*dilation", X, V, dilation=0),
            bad(ValueError, r"-1[\s\S]*padding", X, V, padding=-1),
            bad(ValueError, r"\[conv_transpose2d\].*nothing of the output", X, V, padding=4),
            bad(ValueError, r"\[conv_transpose2d\].*smaller than the stride", X, V, stride=2, output_padding=2),
            bad(ValueError, r"\[conv_transpose2d\].*bias must be \(4,\)", X, V, np.ones(3)),
            bad(ValueError, r"\[conv_transpose2d\].*must not be empty", np.ones((2, 3, 0, 5)), V),
            bad(TypeError, r"\[conv_transpose2d\].*floating", np.ones((1, 3, 2, 2), dtype=np.int64), V),
        ),
    ),
    Row(
        "max_pool2d",
        max_pools,
        max_pool2d,
        EXACT,
        (
            bad(ValueError, r"\[max_pool2d\]", np.ones((5, 5)), 2),
            bad(ValueError, r"\[max_pool2d\].*kernel", X, 0),
            bad(ValueError, r"\[max_pool2d\].*stride", X, 2, 0),
            bad(ValueError, r"\[max_pool2d\].*padding", X, 2, 2, 2),
            bad(ValueError, r"\[max_pool2d\].*(kernel|window)", X, 7),
        ),
    ),
    Row(
        "avg_pool2d",
        avg_pools,
        avg_pool2d,
        SUMS,
        (
            bad(ValueError, r"\[avg_pool2d\]", np.ones((5, 5)), 2),
            bad(ValueError, r"\[avg_pool2d\].*kernel", X, 0),
            bad(ValueError, r"\[avg_pool2d\].*padding", X, 2, 2, 2),
            bad(ValueError, r"\[avg_pool2d\].*(kernel|window)", X, 7),
        ),
    ),
    Row(
        "adaptive_avg_pool2d",
        adaptive_pools,
        adaptive_avg_pool2d,
        SUMS,
        (
            bad(ValueError, r"\[adaptive_avg_pool2d\]", np.ones((5, 5)), 2),
            bad(TypeError, r".+", X, "x"),
        ),
    ),
    Row(
        "adaptive_max_pool2d",
        adaptive_max_pools,
        adaptive_max_pool2d,
        EXACT,
        (
            bad(ValueError, r"\[adaptive_max_pool2d\].*\(N, C, H, W\)", np.ones((5, 5)), 2),
            bad(ValueError, r"\[adaptive_max_pool2d\].*at least 1.*\(0, 2\)", X, (0, 2)),
            bad(ValueError, r"\[adaptive_max_pool2d\].*no rows", np.ones((1, 2, 0, 3)), 1),
            bad(TypeError, r"\[adaptive_max_pool2d\].*floating", np.ones((1, 1, 2, 2), dtype=np.int64), 1),
            bad(TypeError, r".+", X, "x"),
        ),
    ),
    Row(
        "batch_norm",
        batch_norms,
        batch_norm,
        Tol(
            (2e-5, 2e-5), (1e-12, 1e-12), "centring values near 100 with spread 1 loses two digits: 100 u = 6e-6, twice"
        ),
        (
            bad(ValueError, r"\[batch_norm\].*running", np.ones((4, 3)), training=False),
            bad(ValueError, r"\[batch_norm\].*weight.*\(2,\)", np.ones((4, 3)), weight=np.ones(2), training=True),
            bad(ValueError, r"\[batch_norm\]", np.ones(3), training=True),
            bad(ValueError, r"\[batch_norm\].*two", np.ones((1, 3)), training=True),
            bad(ValueError, r"\[batch_norm\].*eps.*-1", np.ones((4, 3)), training=True, eps=-1.0),
        ),
        grad_tol=Tol(
            (1e-4, 5e-5), (0, 0), "the gradient subtracts two means of order 1 and multiplies by 1/std: a few hundred u"
        ),
    ),
    Row(
        "dropout",
        lambda rng: [
            s(rng.normal(size=(3, 37)), label="half"),
            s(rng.normal(size=(3, 37)), 0.25, label="a quarter"),
            s(rng.normal(size=(3, 37)), 0.0, label="none"),
            s(rng.normal(size=(3, 37)), 1.0, label="all"),
            s(rng.normal(size=(3, 37)), 0.5, training=False, label="inference"),
            s(rng.normal(size=(67, 131)), 0.5, label="big", big=True),
        ],
        dropout,
        Tol((1.3e-7, 0), (3e-16, 0), "1/(1-p) is rounded, then the product: two roundings"),
        (
            bad(ValueError, r"\[dropout\].*p.*1\.5", np.ones(3), 1.5),
            bad(ValueError, r"\[dropout\].*p", np.ones(3), -0.1),
        ),
        call=seeded_dropout,
    ),
    Row(
        "sgd_step",
        sgd_steps,
        sgd,
        OPTIMIZER,
        (bad(ValueError, r"\[sgd_step\].*\(2,\).*\(3,\)", [State(np.ones(2))], [State(np.ones(3))], None, lr=0.1),),
        grad=False,
        call=step_sgd,
    ),
    Row(
        "adam_step",
        adam_steps,
        adam,
        OPTIMIZER,
        (
            bad(
                ValueError,
                r"\[adam_step\].*\(2,\).*\(3,\)",
                [State(np.ones(2))],
                [State(np.ones(3))],
                [State(np.ones(2))],
                [State(np.ones(2))],
                step=1,
            ),
        ),
        grad=False,
        call=step_adam,
    ),
    Row(
        "rmsprop_step",
        rmsprop_steps,
        rmsprop,
        OPTIMIZER,
        (
            bad(
                ValueError,
                r"\[rmsprop_step\].*\(2,\).*\(3,\)",
                [State(np.ones(2))],
                [State(np.ones(3))],
                [State(np.ones(2))],
                None,
                None,
            ),
            bad(
                ValueError,
                r"\[rmsprop_step\] momentum=0.5 needs momentum_buffers",
                [State(np.ones(2))],
                [State(np.ones(2))],
                [State(np.ones(2))],
                None,
                None,
                momentum=0.5,
            ),
        ),
        grad=False,
        call=step_rmsprop,
    ),
]
