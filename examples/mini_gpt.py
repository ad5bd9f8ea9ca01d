"""Train a small GPT on *Alice's Adventures in Wonderland*, character by character, and let it write.

    python examples/mini_gpt.py [--steps 1000]

Four layers of size 128 look at 128 characters. It says how well it predicts pages that it has not read, in nats per
character, and at the end continues "Alice " twice: with the likeliest characters, and with drawn ones.
"""

from __future__ import annotations

import argparse
import math
import time

import corten as ct
from corten import nn, optim

CONTEXT, BATCH = 128, 16


def batch(text: ct.Tensor) -> tuple[ct.Tensor, ct.Tensor]:
    """Random passages (BATCH, CONTEXT) and the same a character later."""
    starts = ct.randint(0, text.shape[0] - CONTEXT - 1, (BATCH, 1))
    places = starts + ct.arange(CONTEXT)
    return ct.take(text, places), ct.take(text, places + 1)


def loss_of(net: ct.models.GPT, x: ct.Tensor, y: ct.Tensor) -> ct.Tensor:
    """Mean nats per character."""
    return nn.functional.cross_entropy(net(x).reshape(-1, net.vocab_size), y.reshape(-1))


def main() -> None:
    """Train, report and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()

    ct.manual_seed(options.seed)
    text = ct.datasets.alice()
    tokenizer = ct.text.CharTokenizer.from_text(text)
    tokens = tokenizer.encode(text)
    cut = int(0.9 * tokens.shape[0])
    train, held_out = tokens[:cut], tokens[cut:]
    net = ct.models.GPT(len(tokenizer), CONTEXT, n_embd=128, n_layer=4, n_head=4, dropout=0.1)
    print(f"{sum(p.size for p in net.parameters()):,} parameters, {cut:,} characters, {len(tokenizer)} different ones")

    optimizer = optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1)
    begun = time.perf_counter()
    for step in range(options.steps + 1):
        if step % 250 == 0 or step == options.steps:
            net.eval()
            with ct.no_grad():
                unseen = sum(loss_of(net, *batch(held_out)).item() for _ in range(8)) / 8
            net.train()
            print(f"step {step:5}  loss on unseen pages {unseen:.3f}  {time.perf_counter() - begun:.0f} s", flush=True)
        # Warm up for a hundred steps, then follow half a cosine down to a tenth.
        share = max(0.0, (step - 100) / max(1, options.steps - 100))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, (step + 1) / 100) * (0.55 + 0.45 * math.cos(math.pi * share))
        optimizer.zero_grad()
        loss_of(net, *batch(train)).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    prompt = tokenizer.encode("Alice ").reshape(1, -1)
    for temperature in (0.0, 0.8):
        begun = time.perf_counter()
        written = net.generate(prompt, 400, temperature)
        speed = 400 / (time.perf_counter() - begun)
        print(f"\n--- temperature {temperature}, {speed:.0f} characters per second\n{tokenizer.decode(written[0])}")


if __name__ == "__main__":
    main()
