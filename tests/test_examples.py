"""The examples: their data sets on disk, their parts, their notebooks, and one from end to end.

The programs themselves run in CI in their quick setting, which fails below a floor.
"""

import ast
import builtins
import importlib
import json
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.tree import DecisionTreeClassifier

import segzoo

EXAMPLES = Path(__file__).parent.parent / "examples"
sys.path.insert(0, str(EXAMPLES))
shared = importlib.import_module("_shared")
synthetic = importlib.import_module("_synthetic")
make_notebooks = importlib.import_module("make_notebooks")
PROGRAMS = {name: importlib.import_module(name) for name in make_notebooks.PROGRAMS}
flood, clouds, streets, roofs, steel, nuclei = PROGRAMS.values()


# ---------------------------------------------------------------- options


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_help_names_every_common_option(program, capsys):
    with pytest.raises(SystemExit) as end:
        program.main(["--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    for option in ("data", "epochs", "size", "backbone", "backbone-weights", "quick", "output"):
        assert f"--{option} " in text or f"--{option}\n" in text, option


@pytest.mark.parametrize("program", PROGRAMS.values(), ids=PROGRAMS)
def test_quick_is_smaller_and_what_is_typed_wins(program, tmp_path):
    output = ["--output", str(tmp_path)]
    full, quick = program.parse_arguments(output), program.parse_arguments(["--quick", *output])
    assert quick.images * quick.epochs < full.images * full.epochs and quick.size <= full.size
    typed = program.parse_arguments(["--quick", "--epochs", "3", "--backbone", "vgg19", *output])
    assert (typed.epochs, typed.backbone, typed.backbone_weights) == (3, "vgg19", None)


def test_only_programs_ask_to_be_run_in_their_quick_setting():
    having = {path.stem for path in EXAMPLES.glob("*.py") if '"--quick"' in path.read_text()}
    assert set(PROGRAMS) <= having and not {"_shared", "_synthetic", "make_notebooks"} & having


def test_a_score_below_the_floor_ends_with_an_error(capsys):
    shared.judge("IoU", 0.1, 0.7, 0.6)
    shared.judge("IoU", 0.1, 0.2, None)
    assert "0.100 before the training, 0.700 after it" in capsys.readouterr().out
    for before, after in ((0.1, 0.5), (0.8, 0.7), (0.1, float("nan"))):
        with pytest.raises(SystemExit, match="is not above"):
            shared.judge("IoU", before, after, 0.6)


# ---------------------------------------------------------------- synthetic sets on disk


@pytest.fixture(scope="module")
def sets(tmp_path_factory) -> dict[str, Path]:
    """A few images of every set, painted with seed 5."""
    folder = tmp_path_factory.mktemp("sets")
    return {
        "flood": synthetic.write_flood(folder / "flood", 10, 5),
        "clouds": synthetic.write_clouds(folder / "clouds", 9, 5),
        "streets": synthetic.write_streets(folder / "streets", 15, 5),
        "roofs": synthetic.write_roofs(folder / "roofs", 8, 5),
        "steel": synthetic.write_steel(folder / "steel", 8, 5),
    }


@pytest.mark.slow
def test_flood_set_reads_back_as_painted(sets):
    table = shared.read_csv(sets["flood"] / "metadata.csv")
    assert table[3] == {"Image": "3.jpg", "Mask": "3.png"} and len(table) == 10
    image, mask = synthetic.paint_flood(np.random.default_rng(5), (192, 256))
    read = shared.read_image(sets["flood"] / "Mask/0.png", (192, 256), "L")[..., 0]
    np.testing.assert_array_equal(read, mask * 255)
    read = shared.read_image(sets["flood"] / "Image/0.jpg", (192, 256))
    assert np.abs(read - image.clip(0, 255)).mean() < 8  # JPEG
    images, masks = flood.read_set(sets["flood"], 64)
    assert images.shape == (10, 64, 64, 3) and images.dtype == np.uint8
    assert masks.shape == (10, 64, 64, 1) and set(np.unique(masks)) == {0, 1}
    assert 0.1 < masks.mean() < 0.6


@pytest.mark.slow
def test_clouds_set_reads_back_as_painted(sets):
    runs = clouds.read_table(sets["clouds"] / "train.csv")
    assert len(runs) == 9 and all(list(row) == list(clouds.CLOUD_TYPES) for row in runs.values())
    _, masks = synthetic.paint_clouds(np.random.default_rng(5), (350, 525))
    for kind, run in enumerate(runs["0000000.jpg"].values()):
        decoded = segzoo.rle.decode(run, (1400, 2100))
        np.testing.assert_array_equal(decoded[::4, ::4], masks[..., kind])
        assert decoded.sum() == 16 * masks[..., kind].sum()


@pytest.mark.slow
def test_batches_of_clouds_hold_every_image_once(sets):
    runs = clouds.read_table(sets["clouds"] / "train.csv")
    data = clouds.Clouds(sets["clouds"] / "train_images", runs, runs, (64, 96), 4, 3, shuffle=True)
    assert len(data) == 3
    sizes = [data[k][0].shape for k in range(3)]
    assert sizes == [(4, 64, 96, 1), (4, 64, 96, 1), (1, 64, 96, 1)]
    images, targets = data[0]
    assert len(targets) == 3 and targets[0].shape == (4, 64, 96, 4)
    assert set(np.unique(targets[0])) <= {0, 1}
    np.testing.assert_allclose(images.mean(axis=(1, 2, 3)), 0, atol=1e-4)
    data.on_epoch_end()
    assert sorted(data.names) == sorted(runs) and data.names != list(runs)


@pytest.mark.slow
def test_streets_set_reads_back_as_painted(sets):
    images, labels = streets.read_pairs(sets["streets"] / "train", 256)
    held_out, _ = streets.read_pairs(sets["streets"] / "val", 64)
    assert images.shape == (12, 256, 256, 3) and held_out.shape == (3, 64, 64, 3)
    first = sorted((sets["streets"] / "train").glob("*.jpg")).index(sets["streets"] / "train/1.jpg")
    _, painted = synthetic.paint_street(np.random.default_rng(5))
    assert (labels[first] == painted).mean() > 0.98  # JPEG blurs the outlines, as in the real set
    assert len(np.unique(labels)) == 13


@pytest.mark.slow
def test_roofs_set_reads_back_as_painted(sets):
    images, masks = roofs.read_training(sets["roofs"] / "training", 256)
    rng = np.random.default_rng(5)
    for number in range(8):
        image, mask = synthetic.paint_roofs(rng)
        np.testing.assert_array_equal(masks[number, ..., 0], mask)
        assert np.abs(images[number] - image.clip(0, 255)).max() < 1
    assert len(list((sets["roofs"] / "test/images/img").glob("*.tif"))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("together", [False, True])
def test_steel_set_reads_back_as_painted(sets, tmp_path, together):
    folder = sets["steel"]
    if together:  # the form with ImageId and ClassId in one column
        rows = shared.read_csv(folder / "train.csv")
        rows = [(f"{r['ImageId']}_{r['ClassId']}", r["EncodedPixels"]) for r in rows]
        (tmp_path / "train_images").symlink_to(folder / "train_images")
        shared.write_csv(tmp_path / "train.csv", ["ImageId_ClassId", "EncodedPixels"], rows)
        folder = tmp_path
    runs, rng = steel.read_table(folder), np.random.default_rng(5)
    for encoded in runs.values():
        _, masks = synthetic.paint_steel(rng)
        np.testing.assert_array_equal(segzoo.rle.decode_classes(encoded, (256, 1600)), masks)


@pytest.mark.slow
def test_steel_pipeline_flips_images_and_masks_together(sets):
    runs = steel.read_table(sets["steel"])
    plain, flipped = (
        list(steel.dataset(sets["steel"], runs, (32, 200), 8, training).unbatch())
        for training in (False, True)
    )
    assert plain[0][0].shape == (32, 200, 3) and plain[0][1].shape == (32, 200, 4)
    found = 0
    for image, masks in plain:
        for y, x in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
            for other, other_masks in flipped:
                if np.array_equal(image[::y, ::x], other):
                    np.testing.assert_array_equal(masks[::y, ::x], other_masks)
                    found += 1
    assert found == len(plain)


def color_score(images, truths, metric) -> float:
    """The score, on the second half of images, of a tree that sees one pixel's color at a time."""
    half, classes = len(images) // 2, truths.shape[-1]
    seen, judged = (part.reshape(-1, images.shape[-1]) for part in np.split(images, [half]))
    truth = truths[:half].reshape(-1, classes)
    tree = DecisionTreeClassifier(max_depth=9, random_state=0).fit(seen, truth)
    prediction = tree.predict(judged).reshape(truths[half:].shape)
    return float(metric(truths[half:], prediction.astype("float32")))


@pytest.mark.slow
def test_color_alone_reaches_no_floor(sets):
    images, masks = flood.read_set(sets["flood"], 64)
    assert color_score(images, masks, segzoo.metrics.IoU()) < flood.FLOOR
    images, masks = roofs.read_training(sets["roofs"] / "training", 64)
    assert color_score(images, masks, segzoo.metrics.IoU()) < roofs.FLOOR
    images, labels = streets.read_pairs(sets["streets"] / "train", 64)
    one_hot = (labels[..., None] == np.arange(13)).astype("uint8")
    assert color_score(images, one_hot, segzoo.metrics.IoU()) < streets.FLOOR
    dice = segzoo.metrics.DiceScore(multilabel=True)
    runs = clouds.read_table(sets["clouds"] / "train.csv")
    data = clouds.Clouds(sets["clouds"] / "train_images", runs, runs, (64, 96), 8)
    assert color_score(*data[0], dice) < clouds.FLOOR
    data = steel.dataset(sets["steel"], steel.read_table(sets["steel"]), (64, 400), 8, False)
    images, masks = (part.numpy() for part in next(iter(data)))
    dice.reset_state()
    assert color_score(images, masks, dice) < steel.FLOOR


# ---------------------------------------------------------------- parts of the programs


def test_errors_are_red_where_too_much_and_blue_where_missed():
    image = np.full((1, 4, 3), 100, "uint8")
    picture = shared.errors(image, np.array([[1, 1, 0, 0]]), np.array([[1, 0, 1, 0]]))
    np.testing.assert_allclose(picture[0, 1], (0.1, 0.4, 0.9))
    np.testing.assert_allclose(picture[0, 2], (0.9, 0.2, 0.1))
    np.testing.assert_array_equal(picture[0, 0], picture[0, 3])


def test_overlay_colors_the_masks_only():
    image = np.full((1, 3, 3), 51, "uint8")
    masks = np.array([[[1, 0], [0, 0], [0, 1]]])
    picture = shared.overlay(image, masks, [(255, 0, 0), (0, 0, 255)])
    np.testing.assert_allclose(picture[0, 1], 0.2)
    np.testing.assert_allclose(picture[0, 0], (0.64, 0.09, 0.09))
    np.testing.assert_allclose(picture[0, 2], (0.09, 0.09, 0.64))


def test_grad_cam_of_a_linear_head_is_the_weighted_features(rng):
    image = keras.Input((8, 8, 3))
    features = keras.layers.Conv2D(2, 1, name="features")(image)
    output = keras.layers.Conv2D(1, 1, activation="sigmoid", name="head")(features)
    model = keras.Model(image, output)
    picture = rng.random((8, 8, 3)).astype("float32")
    maps = keras.Model(image, features).predict(picture[None], verbose=0)[0]
    weighted = np.maximum(maps @ model.get_layer("head").get_weights()[0][0, 0, :, 0], 0)
    heat = flood.grad_cam(model, picture, "features")
    np.testing.assert_allclose(heat, weighted / (weighted.max() + 1e-9), atol=1e-4)


@pytest.mark.slow
def test_a_finer_fcn_begins_with_the_scores_of_the_coarser_one(rng):
    common = {"classes": 5, "input_shape": (64, 64, 3), "head_filters": 8}
    teacher, model = (
        segzoo.models.FCN("vgg16", stride=s, backbone_weights=None, **common) for s in (32, 16)
    )
    streets.inherit(model, teacher)
    image = rng.uniform(0, 255, (2, 64, 64, 3)).astype("float32")
    expected, found = (
        keras.Model(m.input, m.get_layer("score_32").output).predict(image, verbose=0)
        for m in (teacher, model)
    )
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_cleaning_fills_holes_drops_specks_and_keeps_roofs_at_the_edge():
    roof = np.zeros((1, 20, 20, 1), bool)
    roof[0, :8, :9] = True
    rough = roof.copy()
    rough[0, 4, 4] = False
    rough[0, 15, 15] = True
    np.testing.assert_array_equal(roofs.clean(rough), roof)


def test_touching_nuclei_are_counted_one_by_one():
    labels = np.zeros((24, 40), int)
    labels[4:20, 4:20], labels[4:20, 20:36] = 1, 2
    scores = np.eye(3)[nuclei.three_classes(labels)]
    found = nuclei.by_network(scores)
    assert nuclei.compare(labels, found) == {"dice": 1, "f1": 1, "found": 2, "wrong": 0}
    scores[6:18, 18:22] = (0, 1, 0)  # a gap in the outline
    merged = nuclei.compare(labels, nuclei.by_network(scores))
    assert merged == {"dice": 1, "f1": 0, "found": 0, "wrong": 1}
    nothing = nuclei.by_network(np.broadcast_to((1.0, 0.0, 0.0), (24, 40, 3)))
    assert nuclei.compare(labels, nothing)["f1"] == 0


def test_crops_of_nuclei_keep_image_and_classes_together():
    image = 1 + np.arange(40.0 * 50).reshape(40, 50)
    crops = nuclei.Crops(image, image.astype("uint16"), 10, 16, 4, seed=0)
    assert len(crops) == 3 and crops[2][0].shape == (2, 16, 16, 1)
    for crop, classes in zip(*crops[0], strict=True):
        factor = crop[0, 0, 0] / classes[0, 0]
        np.testing.assert_allclose(crop[..., 0], factor * classes, rtol=1e-5)


def test_a_picture_that_is_not_installed_is_named_with_the_command(monkeypatch):
    monkeypatch.setattr(nuclei, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="pip install --no-deps stardist"):
        nuclei.find_picture(None)


# ---------------------------------------------------------------- notebooks


@pytest.mark.parametrize("program", PROGRAMS)
def test_notebook_is_what_the_program_makes(program):
    path = EXAMPLES / "notebooks" / f"{program}.ipynb"
    assert path.read_text() == make_notebooks.notebook(program), (
        "run `python examples/make_notebooks.py`"
    )


@pytest.mark.parametrize("program", PROGRAMS)
def test_notebook_defines_every_name_that_it_uses(program):
    book = json.loads((EXAMPLES / "notebooks" / f"{program}.ipynb").read_text())
    code = ["".join(cell["source"]) for cell in book["cells"] if cell["cell_type"] == "code"]
    assert code[0].startswith("SEGZOO = ") and "%pip install" in code[0]
    assert not any("_shared" in cell or "_synthetic" in cell for cell in code)
    known, used = {*dir(builtins), "__doc__"}, set()
    for node in ast.walk(ast.parse("\n".join(code[1:]))):
        if isinstance(node, ast.Name):
            (used if isinstance(node.ctx, ast.Load) else known).add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            known.add(node.name)
        elif isinstance(node, ast.arg):
            known.add(node.arg)
        elif isinstance(node, ast.alias):
            known.add((node.asname or node.name).split(".")[0])
    assert used <= known, used - known


# ---------------------------------------------------------------- one from end to end


@pytest.mark.slow
def test_nuclei_of_a_folder(tmp_path, capsys):
    rng, labels = np.random.default_rng(0), np.zeros((64, 160), "uint16")
    for number, column in enumerate(range(8, 150, 20), 1):
        labels[20 + number : 40 - number, column : column + 12] = number
    image = 20 + 90 * (labels > 0) + rng.normal(0, 5, labels.shape)
    for name, pixels in {"image": image, "labels": labels}.items():
        Image.fromarray(pixels.astype("uint16")).save(tmp_path / f"{name}.tif")
    short = ["--quick", "--epochs", "1", "--images", "8", "--size", "48"]
    nuclei.main([*short, "--data", str(tmp_path), "--output", str(tmp_path)])
    assert (tmp_path / "nuclei.png").exists() and (tmp_path / "nuclei.keras").exists()
    table = shared.read_csv(tmp_path / "scores.csv")
    assert [row["method"] for row in table][-1] == "U-Net with outlines" and len(table) == 3
    for row in table[:2]:  # what a threshold finds, it finds whole
        assert int(row["found"]) > 0 and int(row["wrong"]) == 0
    assert "held-out F1 of nuclei" in capsys.readouterr().out


@pytest.mark.slow
def test_clouds_from_a_folder_to_a_submission(sets, tmp_path, capsys):
    short = ["--quick", "--epochs", "1", "--size", "32", "--batch-size", "4"]
    clouds.main([*short, "--data", str(sets["clouds"]), "--output", str(tmp_path)])
    assert {"predictions.png", "learning_curve.png"} <= {p.name for p in tmp_path.iterdir()}
    rows = shared.read_csv(tmp_path / "submission.csv")
    assert [row["Image_Label"].rsplit("_", 1)[1] for row in rows] == list(clouds.CLOUD_TYPES)
    table = [line.split() for line in capsys.readouterr().out.splitlines() if "x_0_" in line]
    assert [line[0] for line in table] == ["x_0_1", "x_0_2", "x_0_3"]
    parameters = [int(line[1].replace(",", "")) for line in table]
    assert parameters == sorted(set(parameters))
