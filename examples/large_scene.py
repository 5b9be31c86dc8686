"""Predict a scene that is larger than memory: tiles, blending, run lengths by class.

A network is trained on tiles of the left part of a scene and labels all of it, from file to file,
without ever holding the scene or its scores. Then it is seen what each way of tiling costs near the
edges of the tiles. Without `--data` a scene is painted; otherwise the folder holds `scene.npy`,
(H, W, 3) uint8, and `labels.npy`, (H, W) uint8 class numbers.

    python examples/large_scene.py
    python examples/large_scene.py --quick
    python examples/large_scene.py --data scene --backbone resnet50 --backbone-weights imagenet
"""

import keras
import numpy as np
from _shared import (
    common_options,
    draw_rows,
    errors,
    judge,
    overlay,
    parse,
    write_csv,
)
from _synthetic import LAND_COLORS, write_land

import segzoo

FLOOR = 0.6  # mean IoU on the part of the scene that no tile was cut from
TRAINED_ON = 0.6  # of the width
SEAM = 8  # pixels on each side of a tile's edge


def ways(size: int) -> dict[str, dict]:
    """The ways of tiling that are compared, as arguments of predict_tiles."""
    return {
        "side by side": {"overlap": 0, "window": "constant"},
        "a quarter shared, constant": {"overlap": size // 4, "window": "constant"},
        "a quarter shared, Hann": {"overlap": size // 4, "window": "hann"},
        "a quarter shared, Gaussian": {"overlap": size // 4, "window": "gaussian"},
        "half shared, a quarter trimmed": {"overlap": size // 2, "trim": size // 4},
    }


def parse_arguments(argv=None):
    parser = common_options(__doc__, images=400, epochs=12, size=128, batch_size=8, backbone="none")
    parser.add_argument("--scene", type=int, default=1536, help="height of the painted scene")
    parser.add_argument("--quick", action="store_true", help="small and short, for a first try")
    quick = {"images": 160, "epochs": 8, "size": 96, "scene": 512}
    return parse(parser, argv, quick)


def cut_tiles(scene, labels, count: int, size: int, seed: int):
    """Tiles at random places of the part to train on, flipped at random."""
    rng = np.random.default_rng(seed)
    height, width = labels.shape[0], int(labels.shape[1] * TRAINED_ON)
    images, masks = [], []
    for y, x, flip in zip(
        rng.integers(0, height - size + 1, count),
        rng.integers(0, width - size + 1, count),
        rng.choice([-1, 1], count),
        strict=True,
    ):
        place = slice(y, y + size), slice(x, x + size)
        images.append(scene[place][:, ::flip])
        masks.append(labels[place][:, ::flip])
    return np.stack(images), np.stack(masks)


def build(options, classes: int) -> keras.Model:
    """A U-Net on a named backbone, or with its own small encoder on pixels in 0..255."""
    if options.backbone:
        return segzoo.models.UNet(
            options.backbone, classes, backbone_weights=options.backbone_weights
        )
    pixels = keras.Input((None, None, 3))
    unet = segzoo.models.UNet(None, classes, decoder_filters=(64, 32, 16, 8))
    return keras.Model(pixels, unet(keras.layers.Rescaling(1 / 255)(pixels)))


def near_seams(shape: tuple[int, int], size: int, overlap: int, trim: int = 0, **_) -> np.ndarray:
    """The pixels near the edges of what is used of each tile, without the scene's border."""
    near = []
    for length in shape:
        last = length - size
        starts = np.array([*range(0, last, size - overlap), last])
        edges = np.concatenate([starts[starts > 0] + trim, starts[starts < last] + size - trim])
        center = np.arange(length)[:, None] + 0.5
        near.append((abs(center - edges) < SEAM).any(axis=1))
    return near[0][:, None] | near[1][None, :]


def seam_table(model: keras.Model, scene, labels, size: int) -> list[tuple]:
    """For each way of tiling: pixels decided unlike the whole image, and wrong, near its seams."""
    whole = model.predict(scene[None], verbose=0)[0].argmax(axis=-1)
    rows = []
    for name, way in ways(size).items():
        found = segzoo.inference.predict_tiles(
            model, scene, tile_size=size, labels=True, verbose=0, **way
        )
        seams, unlike = near_seams(labels.shape, size, **way), found != whole
        wrong, at_once = (found != labels)[seams].mean(), (whole != labels)[seams].mean()
        rows.append((name, unlike[seams].mean(), unlike[~seams].mean(), wrong, at_once))
    return rows


def main(argv=None) -> None:
    options = parse_arguments(argv)

    # 1. The scene stays on disk: `mmap_mode` reads what is sliced, and nothing else.
    folder = options.data or write_land(options.output / "data", options.scene, options.seed)
    scene = np.load(folder / "scene.npy", mmap_mode="r")
    labels = np.load(folder / "labels.npy", mmap_mode="r")
    classes = int(labels.max()) + 1
    print(f"a scene of {labels.shape[0]} x {labels.shape[1]} pixels, {classes} classes")

    # 2. Training on tiles of the left part.
    images, masks = cut_tiles(scene, labels, options.images, options.size, options.seed)
    model = build(options, classes)
    model.compile(
        optimizer=keras.optimizers.Adam(2e-3 if options.backbone_weights is None else 1e-4),
        loss=segzoo.losses.CategoricalCrossentropy() + segzoo.losses.Dice(),
        metrics=[segzoo.metrics.IoU()],
    )
    model.optimizer.build(model.trainable_variables)  # or the first step is traced twice
    right = int(labels.shape[1] * TRAINED_ON)
    held_out = scene[None, : options.size, right : right + options.size]
    held_out_labels = labels[None, : options.size, right : right + options.size]
    before = model.evaluate(held_out, held_out_labels, return_dict=True, verbose=0)["iou"]
    model.fit(images, masks, epochs=options.epochs, batch_size=options.batch_size)

    # 3. The whole scene, from file to file: averaged over flips, decided band by band.
    path = options.output / "prediction.npy"
    prediction = np.lib.format.open_memmap(path, "w+", "uint8", labels.shape)
    averaged = segzoo.inference.test_time_augmentation(model)
    segzoo.inference.predict_tiles(
        averaged,
        scene,
        tile_size=options.size,
        batch_size=options.batch_size,
        labels=True,
        out=prediction,
    )
    prediction.flush()

    # 4. Run lengths of each class, as competitions and databases take them.
    runs = segzoo.rle.encode_labels(prediction)  # class 0 is the background
    rows = [(number, segzoo.rle.area(run), run) for number, run in runs.items()]
    write_csv(options.output / "prediction.csv", ["Class", "Pixels", "EncodedPixels"], rows)

    # 5. What tiles cost near their edges, on a part of the scene that can be predicted at once.
    side = min(8 * options.size, *labels.shape)
    part = slice(0, side), slice(labels.shape[1] - side, None)
    table = seam_table(model, scene[part], labels[part], options.size // 2)
    header = ["tiles", "unlike near", "unlike far", "wrong near", "at once"]
    write_csv(options.output / "seams.csv", header, table)
    print(
        f"\npixels decided unlike a prediction at once, within {SEAM} pixels of a seam (near) and"
    )
    print("beyond (far); pixels that are wrong near seams, and in the prediction at once there")
    print(f"{'':34}" + "".join(f"{name:>13}" for name in header[1:]))
    for name, *shares in table:
        print(f"  {name:32}" + "".join(f"{share:13.2%}" for share in shares))

    # 6. Judgment and a picture of what no tile was cut from.
    score = segzoo.metrics.IoU(classes=classes)
    decided = np.eye(classes, dtype="float32")[prediction[None, :, right:]]
    score.update_state(labels[None, :, right:], decided)
    view = slice(0, 4 * options.size), slice(right, right + 4 * options.size)
    colors = np.resize(list(LAND_COLORS.values()), (classes, 3))
    picture = np.asarray(scene[view])
    truth, found = (np.eye(classes, dtype=bool)[a[view]] for a in (labels, prediction))
    titles = ["scene", "truth", "prediction", "errors"]
    masks = overlay(picture, truth, colors), overlay(picture, found, colors)
    draw_rows(
        options.output / "prediction.png",
        titles,
        [[picture, *masks, errors(picture, truth, found)]],
    )
    model.save(options.output / "scene.keras")
    judge("IoU", before, float(score.result()), None if options.data else FLOOR)


if __name__ == "__main__":
    main()
