"""Teach two nets to write dates as ISO 8601, and look at what they looked at.

    python examples/translate.py [--steps 600]

The pairs are made up: "Thursday, 5 March 1998", "mar 5th, 98", "05.03.1998" and other ways to write a date, and
"1998-03-05". An encoder-decoder Transformer and a GRU with additive attention learn to translate, character by
character, and are then asked for dates that they have never seen. The pictures show which characters each looked at.
"""

from __future__ import annotations

import argparse
import datetime
import random
import time

import corten as ct
from corten import nn, optim

PAD, BOS, EOS = "<pad>", "<bos>", "<eos>"
DAYS = (datetime.date(2050, 1, 1) - datetime.date(1950, 1, 1)).days


def written(day: datetime.date, rng: random.Random) -> str:
    """A date as people write it; all of these can be read without doubt."""
    n = day.day
    suffix = "th" if 10 < n % 100 < 14 else {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    month, short, weekday = day.strftime("%B"), day.strftime("%b"), day.strftime("%A")
    return rng.choice(
        [
            f"{weekday}, {n} {month} {day.year}",
            f"{month} {n}, {day.year}",
            f"{short} {n}{suffix} {day.year}",
            f"{n} {short.lower()} {day.year}",
            f"the {n}{suffix} of {month}, {day.year}",
            f"{n:02}.{day.month:02}.{day.year}",
            f"{n}. {day.month}. {day.year}",
            f"{weekday[:3]} {short} {n} {day.year}",
        ]
    )


def pairs(days: list[int], rng: random.Random) -> list[tuple[str, str]]:
    """What people write, and ISO 8601."""
    first = datetime.date(1950, 1, 1)
    dates = [first + datetime.timedelta(days=d) for d in days]
    return [(written(d, rng), d.isoformat()) for d in dates]


class Coder:
    """Texts as tensors: characters, and the three that mean padding, beginning and end."""

    def __init__(self, texts: list[str]) -> None:
        self.tokenizer = ct.text.CharTokenizer.from_text("".join(texts), specials=(PAD, BOS, EOS))
        self.pad, self.bos, self.eos = (self.tokenizer.id(s) for s in (PAD, BOS, EOS))

    def encode(self, texts: list[str], ends: bool = False) -> tuple[ct.Tensor, ct.Tensor]:
        """(N, T) and lengths (N,); with `ends`, between beginning and end."""
        rows = [self.tokenizer.encode(t).tolist() for t in texts]
        if ends:
            rows = [[self.bos, *row, self.eos] for row in rows]
        return ct.text.pad_sequences(rows, self.pad)

    def decode(self, tokens: ct.Tensor) -> list[str]:
        """Texts up to their ends."""
        rows = [row[: row.index(self.eos)] if self.eos in row else row for row in tokens.tolist()]
        return [self.tokenizer.decode(row) for row in rows]


def logits_of(net: nn.Module, source: ct.Tensor, target: ct.Tensor, lengths: ct.Tensor) -> ct.Tensor:
    """What either net says of the next token."""
    result = net(source, target, lengths)
    return result[0] if isinstance(result, tuple) else result


def exact(net: nn.Module, data: list[tuple[str, str]], source: Coder, target: Coder) -> float:
    """The share of texts that are translated without a mistake."""
    right = 0
    for at in range(0, len(data), 250):
        part = data[at : at + 250]
        tokens, lengths = source.encode([a for a, _ in part])
        made = net.translate(tokens, target.bos, target.eos, 12, lengths)
        made = made[0] if isinstance(made, tuple) else made
        right += sum(text == b for text, (_, b) in zip(target.decode(made), part, strict=True))
    return right / len(data)


def train(name: str, net: nn.Module, data: list[tuple[str, str]], source: Coder, target: Coder, steps: int) -> None:
    """Adam on batches of 64, its rate rising and falling again."""
    optimizer = optim.Adam(net.parameters(), lr=1e-3)
    rng, begun, mean = random.Random(1), time.perf_counter(), 0.0
    for step in range(1, steps + 1):
        part = rng.sample(data, 64)
        x, lengths = source.encode([a for a, _ in part])
        y, _ = target.encode([b for _, b in part], ends=True)
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(step / 100, 1.0, (steps - step + 1) / (0.5 * steps))
        optimizer.zero_grad()
        logits = logits_of(net, x, y[:, :-1], lengths)
        loss = nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), y[:, 1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        mean += (loss.item() - mean) / min(step, 50)
        if step % 200 == 0 or step == steps:
            print(f"{name}: step {step}, loss {mean:.4f}, {time.perf_counter() - begun:.0f} s", flush=True)


def main() -> None:
    """Train both, count, and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--out", default="out", help="folder for the pictures")
    options = parser.parse_args()

    ct.manual_seed(0)
    rng = random.Random(0)
    days = rng.sample(range(DAYS), 12_000)
    data, unseen = pairs(days[:11_000], rng), pairs(days[11_000:], rng)  # no day is in both
    source, target = Coder([a for a, _ in data + unseen]), Coder([b for _, b in data])
    sizes = len(source.tokenizer), len(target.tokenizer)
    nets = {
        "Transformer": ct.models.Transformer(*sizes, 64, 4, 2, 128, dropout=0.0, norm_first=True),
        "GRU with attention": ct.models.Seq2Seq(*sizes, 32, 64),
    }
    for name, net in nets.items():
        train(name, net, data, source, target, options.steps)
        print(f"{name}: {exact(net, unseen, source, target):.1%} of {len(unseen)} unseen dates are exactly right")

    text = "the 5th of March, 1998"
    tokens, lengths = source.encode([text])
    for name, net in nets.items():
        if isinstance(net, ct.models.Seq2Seq):
            made, weights = net.translate(tokens, target.bos, target.eos, 12, lengths)
        else:
            made = net.translate(tokens, target.bos, target.eos, 12, lengths)
            begun = ct.full((1, 1), target.bos, dtype="int64")
            weights = net.attention(tokens, ct.concat([begun, made[:, :-1]], 1), lengths)
        answer = target.decode(made)[0]
        print(f"{name}: {text!r} is {answer}")
        path = f"{options.out}/alignment_{name.split()[0].lower()}.png"
        rows = weights[0, : len(answer)]
        print("see", ct.viz.attention_map(path, rows, list(answer), list(text), titles=[name]))


if __name__ == "__main__":
    main()
