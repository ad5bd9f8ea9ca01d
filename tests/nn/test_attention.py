"""Attention layers beyond their golden values: equal ways to the same result, rules, memory, threads."""

from __future__ import annotations

import resource
import subprocess
import sys

import numpy as np
import pytest

import corten as ct
from corten import _core, nn
from corten.nn import functional as F


def normal(*shape: int, seed: int = 0, dtype: str = "float32", grad: bool = False) -> ct.Tensor:
    return ct.tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype), requires_grad=grad)


def close(a: ct.Tensor, b: ct.Tensor, tolerance: float = 2e-5) -> None:
    """Within `tolerance` of 1 + |b|: sums of some hundred terms of order 1 in float32."""
    x, y = a.detach().numpy(), b.detach().numpy()
    assert x.shape == y.shape
    assert np.all(np.abs(x - y) <= tolerance * (1 + np.abs(y))), float(np.abs(x - y).max())


# -- the fused operation against the one that holds all weights


def rules(kind: str, n: int, h: int, length: int, keys: int) -> dict:
    rng = np.random.default_rng(7)
    return {
        "none": {},
        "causal": {"is_causal": True, "offset": keys - length},
        "window": {"window": (37, 5)},
        "lengths": {"lengths": ct.tensor(rng.integers(0, keys + 1, n))},
        "bool": {"attn_mask": ct.tensor(rng.random((length, keys)) < 0.7)},
        "bool keys": {"attn_mask": ct.tensor(rng.random((n, 1, 1, keys)) < 0.7)},
        "bool all": {"attn_mask": ct.tensor(rng.random((n, h, length, keys)) < 0.7), "is_causal": True},
        "added": {"attn_mask": ct.tensor(rng.normal(size=(h, length, keys)).astype("float32"))},
        "added rows": {"attn_mask": ct.tensor(rng.normal(size=(n, 1, length, 1)).astype("float32"))},
    }[kind]


KINDS = ["none", "causal", "window", "lengths", "bool", "bool keys", "bool all", "added", "added rows"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(2, 3, 70, 130, 64, 64), (1, 2, 129, 65, 20, 33), (3, 1, 1, 200, 32, 32)])
@pytest.mark.parametrize("kind", KINDS)
def test_flash_equals_composed(kind: str, shape: tuple[int, ...], dtype: str) -> None:
    n, h, length, keys, size, value = shape
    how = rules(kind, n, h, length, keys)
    if "attn_mask" in how and how["attn_mask"].dtype != "bool":
        how["attn_mask"] = how["attn_mask"].astype(dtype)
    x = [
        normal(n, h, length, size, seed=1, dtype=dtype, grad=True),
        normal(n, h, keys, size, seed=2, dtype=dtype, grad=True),
        normal(n, h, keys, value, seed=3, dtype=dtype, grad=True),
    ]
    g = normal(n, h, length, value, seed=4, dtype=dtype)
    tolerance = 5e-5 if dtype == "float32" else 1e-12
    fused = F.scaled_dot_product_attention(*x, **how)
    composed = F.attention_weights(x[0], x[1], **how) @ x[2]
    close(fused, composed, tolerance)
    for a, b in zip(ct.grad(fused, x, g), ct.grad(composed, x, g), strict=True):
        close(a, b, tolerance)


@pytest.mark.parametrize("size", [1, 8, 65, 128, 256])
def test_sizes_of_heads_up_to_256(size: int) -> None:
    q, k = normal(1, 2, 40, size, seed=1), normal(1, 2, 50, size, seed=2)
    close(F.scaled_dot_product_attention(q, k, k), F.attention_weights(q, k) @ k)


def test_heads_that_share_keys_are_heads_with_repeated_keys() -> None:
    q, k = normal(2, 6, 30, 16, seed=1, grad=True), normal(2, 2, 40, 16, seed=2, grad=True)
    g = normal(2, 6, 30, 16, seed=3)
    shared = F.scaled_dot_product_attention(q, k, k, is_causal=True, enable_gqa=True)
    repeated = ct.repeat(k, 3, axis=1)
    plain = F.scaled_dot_product_attention(q, repeated, repeated, is_causal=True)
    close(shared, plain)
    for a, b in zip(ct.grad(shared, [q, k], g), ct.grad(plain, [q, k], g), strict=True):
        close(a, b)


def test_hidden_rows_give_zeros_and_no_gradient() -> None:
    x = normal(1, 2, 70, 8, grad=True)
    keep = ct.tensor(np.arange(70) % 3 > 0).reshape(70, 1)
    y = F.scaled_dot_product_attention(x, x, x, keep)
    assert not y.detach()[:, :, ::3].numpy().any()
    g = ct.grad(y, x, ct.ones_like(y))
    assert np.isfinite(g.numpy()).all()
    # Nothing is looked at: nothing flows anywhere.
    y = F.scaled_dot_product_attention(x, x, x, ct.zeros((70, 70), dtype="bool"))
    assert not y.detach().numpy().any()
    g = ct.grad(y, x, ct.ones_like(y))
    assert not g.numpy().any()


def test_padding_is_not_read() -> None:
    """Keys behind the lengths may hold anything, NaN included."""
    k = np.random.default_rng(0).normal(size=(2, 1, 70, 8)).astype("float32")
    lengths = ct.tensor([70, 40])
    q, clean = (
        normal(2, 1, 5, 8),
        F.scaled_dot_product_attention(normal(2, 1, 5, 8), ct.tensor(k), ct.tensor(k), lengths=lengths),
    )
    k[1, :, 40:] = np.nan
    x = ct.tensor(k, requires_grad=True)
    y = F.scaled_dot_product_attention(q, x, x, lengths=lengths)
    np.testing.assert_array_equal(y.detach().numpy(), clean.numpy())
    g = ct.grad(y, x, ct.ones_like(y))
    assert np.isfinite(g.numpy()).all()
    assert not g.numpy()[1, :, 40:].any()


# -- dropout


def test_dropout_is_that_of_the_weights_and_repeats_with_the_seed() -> None:
    q, k, v = (normal(2, 2, 70, 16, seed=s, grad=True) for s in (1, 2, 3))
    g = normal(2, 2, 70, 16, seed=4)
    ct.manual_seed(5)
    fused = F.scaled_dot_product_attention(q, k, v, None, 0.3, True)
    ct.manual_seed(5)
    weights = F.attention_weights(q, k, None, 0.3, True)
    close(fused, weights @ v)
    for a, b in zip(ct.grad(fused, [q, k, v], g), ct.grad(weights @ v, [q, k, v], g), strict=True):
        close(a, b, 5e-5)
    assert F.scaled_dot_product_attention(q, k, v, None, 0.3, True).tolist() != fused.tolist()
    assert not F.scaled_dot_product_attention(q, k, v, dropout_p=1.0).detach().numpy().any()
    kept = (F.attention_weights(ct.zeros((1, 1, 200, 1)), ct.zeros((1, 1, 500, 1)), dropout_p=0.3).numpy() > 0).mean()
    assert abs(kept - 0.7) < 5 * np.sqrt(0.21 / 100_000)  # five standard deviations


@pytest.mark.parametrize("threads", [2, 3])
def test_thread_count_changes_no_bit(threads: int) -> None:
    q, k = normal(1, 2, 300, 64, seed=1, grad=True), normal(1, 2, 700, 64, seed=2, grad=True)

    def run() -> list[bytes]:
        ct.manual_seed(1)
        y = F.scaled_dot_product_attention(q, k, k, None, 0.2, True, offset=400)
        return [t.detach().numpy().tobytes() for t in (y, *ct.grad(y, [q, k], ct.ones_like(y)))]

    _core.set_num_threads(1)
    alone = run()
    _core._force_threads(True)
    _core.set_num_threads(threads)
    assert run() == alone


# -- layers


def test_weights_on_request_change_nothing_else() -> None:
    layer = nn.MultiheadAttention(16, 4, batch_first=True)
    x = normal(2, 9, 16)
    hidden = ct.tensor(np.arange(9) > 6).reshape(1, 9).expand(2, 9)
    y, weights = layer(x, x, x, hidden, average_attn_weights=False)
    z, none = layer(x, x, x, hidden, need_weights=False)
    assert none is None
    assert weights.shape == (2, 4, 9, 9)
    close(y, z)
    np.testing.assert_allclose(weights.sum(-1).detach().numpy(), 1, rtol=1e-6)
    assert not weights[..., 7:].detach().numpy().any()
    z, _ = layer(x, x, x, need_weights=False, lengths=ct.tensor([7, 7]))
    close(y, z)


def test_causal_says_what_the_square_mask_says() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, 0.0, batch_first=True)
    x = normal(2, 9, 16)
    mask = nn.Transformer.generate_square_subsequent_mask(9)
    close(layer(x, is_causal=True), layer(x, mask))
    # What comes later does not change what was before.
    later = ct.concat([x[:, :5], normal(2, 4, 16, seed=9)], 1)
    close(layer(later, is_causal=True)[:, :5], layer(x, is_causal=True)[:, :5])


def test_batch_first_only_moves_axes() -> None:
    net = nn.Transformer(8, 2, 1, 1, 16, 0.0)
    other = nn.Transformer(8, 2, 1, 1, 16, 0.0, batch_first=True)
    other.load_state_dict(net.state_dict())
    src, tgt = normal(5, 3, 8), normal(4, 3, 8, seed=1)
    close(other(src.transpose(0, 1), tgt.transpose(0, 1)).transpose(0, 1), net(src, tgt))


def test_layers_of_a_stack_are_copies() -> None:
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)
    names = [name for name, _ in encoder.named_parameters()]
    assert len(names) == 24
    assert names[0] == "layers.0.self_attn.in_proj_weight"
    assert encoder.layers[0].linear1.weight is not encoder.layers[1].linear1.weight
    assert encoder.layers[0].linear1.weight.tolist() == encoder.layers[1].linear1.weight.tolist()


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: nn.MultiheadAttention(8, 3), ValueError, "num_heads=3 must divide embed_dim=8"),
        (lambda: nn.MultiheadAttention(8, 2)(*[ct.zeros((3, 2, 6))] * 3), ValueError, "query must have size 8"),
        (
            lambda: nn.MultiheadAttention(8, 2)(*[ct.zeros((3, 2, 8))] * 3, attn_mask=ct.zeros((2, 3))),
            ValueError,
            r"attn_mask must be \(L, S\) = \(3, 3\)",
        ),
        (
            lambda: nn.MultiheadAttention(8, 2)(*[ct.zeros((3, 2, 8))] * 3, ct.zeros((3, 2))),
            ValueError,
            r"key_padding_mask must be \(N, S\) = \(2, 3\)",
        ),
        (lambda: nn.TransformerEncoderLayer(8, 2, activation="tan"), ValueError, "activation must be 'relu'"),
        (lambda: nn.Transformer(8, 2, 1, 1)(ct.zeros((3, 2, 6)), ct.zeros((3, 2, 8))), ValueError, "d_model=8"),
        (lambda: nn.TransformerEncoder(3, 2), TypeError, "must be a module"),
    ],
)
def test_wrong_sizes_are_named(make, error, text) -> None:
    with pytest.raises(error, match=text):
        make()


# -- memory

LONG = """
import numpy as np, resource
import corten as ct
from corten.nn import functional as F
ct.ones(10).sum().item()
shape = (1, 1, 16384, 64)
x = [ct.tensor(np.random.default_rng(s).normal(size=shape).astype("f"), requires_grad=True) for s in range(3)]
g = ct.ones(shape)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
F.scaled_dot_product_attention(*x, is_causal=True).backward(g)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB there")
def test_memory_is_linear_in_the_length() -> None:
    """All 16,384^2 weights in float32 would take a gigabyte."""
    assert resource.RUSAGE_SELF == 0
    out = subprocess.run([sys.executable, "-c", LONG], capture_output=True, text=True, check=True)
    assert float(out.stdout) < 300, f"{out.stdout.strip()} MiB"
