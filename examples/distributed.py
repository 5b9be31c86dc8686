"""Train on several machines: MultiWorkerMirroredStrategy around a loop of one's own.

Keras's `fit` refuses this strategy, so the training step is written out. On a cluster, start the
program once per machine with TF_CONFIG set. Without TF_CONFIG it starts `--workers` processes on
this machine, which talk over loopback; `--workers 1` trains the same network in one process, on the
same batches, and ends with the same figures.

    python examples/distributed.py --workers 2
"""

import argparse
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf

import segzoo


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--workers", type=int, default=2, help="processes on this machine")
    parser.add_argument("--epochs", type=int, default=8, help="passes over the pictures")
    parser.add_argument("--images", type=int, default=64, help="synthetic pictures")
    parser.add_argument("--size", type=int, default=64, help="height and width of a picture")
    parser.add_argument("--batch-size", type=int, default=8, help="pictures in one global batch")
    parser.add_argument("--quick", action="store_true", help="two passes over few, small pictures")
    parser.add_argument(
        "--output", type=Path, default=Path("output/distributed"), help="folder for the results"
    )
    options = parser.parse_args()
    if options.quick:
        options.epochs, options.images, options.size = 2, 16, 48
    return options


def pictures(count: int, size: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noisy gray pictures of one bright disc each, in 0..1, and the discs' masks."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    center = rng.uniform(0.25 * size, 0.75 * size, (count, 2, 1, 1))
    radius = rng.uniform(0.1 * size, 0.3 * size, (count, 1, 1))
    mask = (y - center[:, 0]) ** 2 + (x - center[:, 1]) ** 2 < radius**2
    image = 0.3 + 0.3 * mask + rng.normal(0, 0.15, mask.shape)
    return image[..., None].astype("float32"), mask[..., None].astype("uint8")


def network() -> keras.Model:
    """A small U-Net; group normalization needs no statistics of a batch, so replicas agree."""
    return segzoo.models.UNet(
        None, 1, (None, None, 1), decoder_filters=(64, 32, 16, 8), normalization="group"
    )


def train(strategy, build, loss, metrics, optimizer, images, masks, batch_size, epochs):
    """Train under any strategy; `build`, `metrics` and `optimizer` are called in its scope.

    Returns the model and a list of the epochs' logs.
    """
    with strategy.scope():
        model, optimizer, metrics = build(), optimizer(), metrics()
        mean_loss = keras.metrics.Mean(name="loss")
        optimizer.build(model.trainable_variables)

    def share_of_worker(context):
        """Every worker takes its own slice of each global batch."""
        data = tf.data.Dataset.from_tensor_slices((images, masks))
        data = data.batch(context.get_per_replica_batch_size(batch_size), drop_remainder=True)
        return data.shard(context.num_input_pipelines, context.input_pipeline_id)

    batches = strategy.distribute_datasets_from_function(share_of_worker)

    def replica_step(x, y):
        with tf.GradientTape() as tape:
            prediction = model(x, training=True)
            # segzoo's losses divide a mean by the number of replicas, as Keras's do, so that the
            # sum over the replicas is the mean over the global batch.
            value = loss(y, prediction)
        gradients = tape.gradient(value, [v.value for v in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)  # sums over the replicas
        mean_loss.update_state(value * strategy.num_replicas_in_sync)
        for metric in metrics:
            metric.update_state(y, prediction)

    @tf.function
    def step(batch):
        strategy.run(replica_step, args=batch)

    logs = []
    for _ in range(epochs):
        for metric in (mean_loss, *metrics):
            metric.reset_state()
        for batch in batches:
            step(batch)
        # Reading a metric sums over all workers: each of them has to do it.
        logs.append({metric.name: float(metric.result()) for metric in (mean_loss, *metrics)})
    return model, logs


def work(options: argparse.Namespace) -> None:
    """One worker: the first one writes the results."""
    if "TF_CONFIG" in os.environ:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
        first = json.loads(os.environ["TF_CONFIG"])["task"]["index"] == 0
    else:
        strategy, first = tf.distribute.get_strategy(), True
    keras.utils.set_random_seed(0)
    model, logs = train(
        strategy,
        network,
        segzoo.losses.BCEDice(per_image=True),  # of the batch, it would be of a replica's share
        lambda: [segzoo.metrics.IoU(classes=1), segzoo.metrics.DiceScore(classes=1)],
        lambda: keras.optimizers.Adam(2e-3),
        *pictures(options.images, options.size),
        options.batch_size,
        options.epochs,
    )
    if first:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "logs.json").write_text(json.dumps(logs, indent=2))
        model.save(options.output / "model.keras")
        for epoch, values in enumerate(logs, 1):
            print(f"epoch {epoch}:", ", ".join(f"{k} {v:.4f}" for k, v in values.items()))
        print(f"{strategy.num_replicas_in_sync} replica(s); logs and model in {options.output}/")


def free_addresses(count: int) -> list[str]:
    """Addresses on loopback that nobody uses."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{s.getsockname()[1]}" for s in sockets]
    for s in sockets:
        s.close()
    return addresses


def launch(workers: int) -> int:
    """Start this program once per worker; return the first bad exit status, or 0."""
    cluster = {"worker": free_addresses(workers)}
    processes = []
    for index in range(workers):
        config = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})
        command = [sys.executable, *sys.argv]
        processes.append(subprocess.Popen(command, env={**os.environ, "TF_CONFIG": config}))
    return next((status for p in processes if (status := p.wait())), 0)


if __name__ == "__main__":
    options = parse_arguments()
    if options.workers == 1 or "TF_CONFIG" in os.environ:
        work(options)
    else:
        sys.exit(launch(options.workers))
