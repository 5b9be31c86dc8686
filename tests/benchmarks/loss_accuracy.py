"""Prints every loss with its oracle and the largest relative deviation seen in float32.

python -m tests.benchmarks.loss_accuracy [--seeds 20]
"""

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from tests.losses import helpers


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    options = parser.parse_args()
    print("| loss | oracle (float64) | of probabilities | of logits |\n| --- | --- | --- | --- |")
    for name in helpers.CLASSES:
        worst = {False: 0.0, True: 0.0}
        for case, classes in helpers.cases():
            if case != name:
                continue
            for seed in range(options.seeds):
                _, y, p = helpers.data(classes, seed)
                expected = helpers.ORACLES[name](y, p)
                for from_logits in worst:
                    x = helpers.to_logits(name, p) if from_logits else p
                    got = helpers.run(helpers.make(name, from_logits=from_logits), y, x)
                    deviation = abs(got - expected) / max(abs(expected), 1e-12)
                    worst[from_logits] = max(worst[from_logits], deviation)
        source = helpers.ORACLE_NAMES.get(name, "")
        print(f"| {name} | {source} | {worst[False]:.1e} | {worst[True]:.1e} |", flush=True)


if __name__ == "__main__":
    main()
