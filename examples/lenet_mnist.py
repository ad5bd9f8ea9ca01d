"""LeNet-5 on the full MNIST, two recipes, with the figures that docs/results.md quotes.

    CORTEN_DATA=... python examples/lenet_mnist.py slide    # ReLU after the first convolution only, plain SGD 0.01
    CORTEN_DATA=... python examples/lenet_mnist.py relu     # ReLU in every hidden layer, Adam

Net (LeCun et al., "Gradient-based learning applied to document recognition", 1998, with max-pooling):
conv 6@5x5 -> pool 2x2 -> conv 16@5x5 -> pool 2x2 -> 120 -> 84 -> 10, cross-entropy on the softmax of the ten outputs,
batches of 64. `slide` stops at the first epoch whose test accuracy reaches `--target` (0.985), at most 50 epochs;
`relu` runs 6 epochs, epoch e = 0..5 with learning rate 0.001 * (1 - e / 6): at a constant rate the accuracy of the last
epoch is left to luck (0.983 to 0.990 over five seeds). Without CORTEN_DATA the full set is downloaded into the cache.
"""

from __future__ import annotations

import argparse
import time

import corten as ct
from corten import nn, optim
from corten.data import DataLoader
from corten.datasets import mnist
from corten.train import Trainer


def lenet(relu_everywhere: bool) -> nn.Sequential:
    """The net above; with `relu_everywhere=False` only the first convolution has an activation."""
    act = nn.ReLU if relu_everywhere else nn.Identity
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), act(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(256, 120), act(), nn.Linear(120, 84), act(), nn.Linear(84, 10),
    )  # fmt: skip


def main() -> None:
    """Trains and prints one line per epoch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", choices=["slide", "relu"])
    parser.add_argument("--epochs", type=int, help="default: 50 for slide, 6 for relu")
    parser.add_argument(
        "--target", type=float, help="stop when the test accuracy reaches this (default: 0.985 for slide)"
    )
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    slide = args.recipe == "slide"
    epochs = args.epochs or (50 if slide else 6)
    target = args.target if args.target is not None else (0.985 if slide else 1.0)

    ct.manual_seed(args.seed)
    train = DataLoader(mnist("train", subset="full"), batch_size=64, shuffle=True)
    test = DataLoader(mnist("test", subset="full"), batch_size=1000)
    model = lenet(relu_everywhere=not slide)
    optimizer = optim.SGD(model.parameters(), lr=0.01) if slide else optim.Adam(model.parameters(), lr=1e-3)
    trainer = Trainer(model, nn.CrossEntropyLoss(), optimizer, metrics=["accuracy"])
    start = time.perf_counter()
    for epoch in range(1, epochs + 1):
        if not slide:
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * (1 - (epoch - 1) / epochs)
        trainer.fit(train, epochs=1, verbose=0)
        result = trainer.evaluate(test)
        print(
            f"epoch {epoch:2d}  test accuracy {result['accuracy']:.4f}  {time.perf_counter() - start:6.1f} s",
            flush=True,
        )
        if result["accuracy"] >= target:
            break


if __name__ == "__main__":
    main()
