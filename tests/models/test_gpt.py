"""GPT: its layout, its cache, what it writes."""

from __future__ import annotations

import numpy as np
import pytest

import corten as ct
from corten import nn


def small(**kwargs) -> ct.models.GPT:
    ct.manual_seed(0)
    sizes = {"n_positions": 24, "n_embd": 16, "n_layer": 2, "n_head": 4, "dropout": 0.0} | kwargs
    net = ct.models.GPT(11, **sizes)
    # Larger than the first values: greedy continuations shall differ from place to place.
    for p in net.parameters():
        if p.ndim == 2:
            nn.init.normal_(p, 0.0, 0.5)
    return net


def tokens(n: int = 2, t: int = 5) -> ct.Tensor:
    return ct.tensor(np.random.default_rng(1).integers(0, 11, (n, t)))


def test_names_and_shapes_are_those_of_gpt2() -> None:
    state = {name: value.shape for name, value in small(n_layer=1).state_dict().items()}
    assert state == {
        "wte.weight": (11, 16),
        "wpe.weight": (24, 16),
        "h.0.ln_1.weight": (16,),
        "h.0.ln_1.bias": (16,),
        "h.0.attn.c_attn.weight": (16, 48),
        "h.0.attn.c_attn.bias": (48,),
        "h.0.attn.c_proj.weight": (16, 16),
        "h.0.attn.c_proj.bias": (16,),
        "h.0.ln_2.weight": (16,),
        "h.0.ln_2.bias": (16,),
        "h.0.mlp.c_fc.weight": (16, 64),
        "h.0.mlp.c_fc.bias": (64,),
        "h.0.mlp.c_proj.weight": (64, 16),
        "h.0.mlp.c_proj.bias": (16,),
        "ln_f.weight": (16,),
        "ln_f.bias": (16,),
    }


def test_it_is_the_formula() -> None:
    """One block, written out in NumPy."""
    net = small(n_layer=1, n_head=2)
    w = {name: value.numpy().astype(np.float64) for name, value in net.state_dict().items()}
    x = tokens()

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"] + w[f"{name}.bias"]

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ w[f"{name}.weight"] + w[f"{name}.bias"]

    y = w["wte.weight"][x.numpy()] + w["wpe.weight"][:5]
    qkv = linear(norm(y, "h.0.ln_1"), "h.0.attn.c_attn")
    parts = []
    for head in range(2):
        q, k, v = (qkv[..., i * 16 + head * 8 : i * 16 + head * 8 + 8] for i in range(3))
        scores = q @ k.swapaxes(1, 2) / np.sqrt(8) + np.where(np.tri(5), 0, -np.inf)
        e = np.exp(scores - scores.max(-1, keepdims=True))
        parts.append(e / e.sum(-1, keepdims=True) @ v)
    y = y + linear(np.concatenate(parts, -1), "h.0.attn.c_proj")
    h = linear(norm(y, "h.0.ln_2"), "h.0.mlp.c_fc")
    h = h / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (h + 0.044715 * h**3)))
    y = y + linear(h, "h.0.mlp.c_proj")
    wanted = norm(y, "ln_f") @ w["wte.weight"].T
    # Sums of up to 64 terms of order 1 in float32.
    np.testing.assert_allclose(net(x).detach().numpy(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("pieces", [(5,), (1, 1, 1, 1, 1), (2, 3), (3, 1, 1)])
def test_the_cache_changes_nothing(pieces: tuple[int, ...]) -> None:
    net = small()
    x = tokens()
    whole = net(x).detach().numpy()
    cache, at, found = net.cache(2), 0, []
    with ct.no_grad():
        for n in pieces:
            found.append(net(x[:, at : at + n], cache).numpy())
            at += n
    # Both are float32 sums in another order.
    np.testing.assert_allclose(np.concatenate(found, 1), whole, rtol=1e-4, atol=2e-5)
    assert cache.used == 5


@pytest.mark.parametrize("n", [1, 3])
def test_greedy_text_is_the_same_with_and_without_cache(n: int) -> None:
    """Beyond the last position the window moves, and the cache begins again."""
    net = small()
    a = net.generate(tokens(n), 40, temperature=0)
    b = net.generate(tokens(n), 40, temperature=0, use_cache=False)
    assert a.shape == (n, 45)
    assert a.tolist() == b.tolist()
    assert len(set(a[0].tolist())) > 2, "a constant continuation would prove little"


def test_single_steps_give_the_logits_of_the_whole() -> None:
    net = small().eval()
    x = tokens()
    cache = net.cache(2)
    with ct.no_grad():
        net(x[:, :4], cache)
        logits = net._stepper(cache)(x[:, 4:])
    np.testing.assert_allclose(logits.numpy(), net(x)[:, -1].detach().numpy(), rtol=1e-4, atol=2e-5)


def test_seeds_repeat_and_samplers_are_used() -> None:
    net = small()
    draw = lambda: net.generate(tokens(), 10, 1.0, sampler=ct.text.Sampler(1.0, seed=4)).tolist()  # noqa: E731
    assert draw() == draw()
    ct.manual_seed(3)
    a = net.generate(tokens(), 10, 1.5, top_k=5, top_p=0.9)
    ct.manual_seed(3)
    assert a.tolist() == net.generate(tokens(), 10, 1.5, top_k=5, top_p=0.9).tolist()


def test_a_stop_token_ends_a_sequence() -> None:
    net = small()
    free = net.generate(tokens(), 12, temperature=0)[:, 5:].tolist()
    stop = free[0][3]
    seen: list[list[int]] = []
    held = net.generate(tokens(), 12, temperature=0, stop=[stop], on_token=lambda t: seen.append(t.tolist()))[:, 5:]
    for row, plain in zip(held.tolist(), free, strict=True):
        end = plain.index(stop) if stop in plain else len(plain)
        assert row[: end + 1] == plain[: end + 1]
        assert all(t == stop for t in row[end:])
    assert len(seen) == held.shape[1]
    assert not net.training or net.train(True) is net


def test_generate_puts_the_mode_back() -> None:
    net = small(dropout=0.5)
    net.train()
    net.generate(tokens(), 2)
    assert net.training


def test_it_learns_a_sequence_by_heart() -> None:
    ct.manual_seed(0)
    net = ct.models.GPT(7, 12, n_embd=16, n_layer=1, n_head=2, dropout=0.0)
    optimizer = ct.optim.Adam(net.parameters(), lr=1e-2)
    text = ct.tensor([[0, 3, 1, 4, 1, 5, 2, 6, 5, 3, 5]])
    for _ in range(80):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(text[:, :-1]).reshape(-1, 7), text[:, 1:].reshape(-1))
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.05
    assert net.generate(text[:, :2], 9, temperature=0).tolist() == text.tolist()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: ct.models.GPT(11, n_embd=10, n_head=4), ValueError, "n_head=4 must divide n_embd=10"),
        (lambda: small()(ct.zeros((1, 25), dtype="int64")), ValueError, "25 tokens are more than the n_positions=24"),
        (lambda: small()(ct.zeros(3, dtype="int64")), ValueError, r"tokens must be \(N, T\)"),
        (lambda: small().generate(ct.zeros((1, 0), dtype="int64"), 3), ValueError, "at least one token each"),
        (lambda: small().generate(tokens(), 3, -1.0), ValueError, "temperature must be at least 0"),
        (
            lambda: ct.models.KVCache(1, 1, 2, 4, 3).append(0, ct.ones((1, 2, 5, 3)), ct.ones((1, 2, 5, 3))),
            ValueError,
            "room for 4 tokens, 0 are there, and 5 more",
        ),
        (
            lambda: ct.models.KVCache(1, 1, 2, 4, 3).append(0, ct.ones((1, 1, 2, 3)), ct.ones((1, 1, 2, 3))),
            ValueError,
            r"must be \(1, 2, T, 3\)",
        ),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, error, text) -> None:
    with pytest.raises(error, match=text):
        call()


def test_the_cache_writes_in_place() -> None:
    """Otherwise every token would copy all the keys."""
    cache = ct.models.KVCache(1, 1, 2, 64, 4)
    before = ct._core.parameter_copies()
    for _ in range(5):
        k, _ = cache.append(0, ct.ones((1, 2, 1, 4)), ct.ones((1, 2, 1, 4)))
        cache.advance(1)
        assert k.shape[2] == cache.used
        del k, _
    assert ct._core.parameter_copies() == before
