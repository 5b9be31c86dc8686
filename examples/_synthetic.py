"""Small synthetic data sets in the layout of the real ones.

Each `write_...` paints a set and lays it out on disk exactly as the real one is published, so that
an example reads both with the same lines. In every set the colors of the classes overlap: what a
pixel is can be told from its surroundings only.
"""

from pathlib import Path

import numpy as np
from _shared import write_csv
from PIL import Image, ImageDraw
from scipy import ndimage

import segzoo


def noise(rng, shape: tuple[int, int], scale, octaves: int = 1) -> np.ndarray:
    """Smooth random values in 0..1 with blobs of `scale` pixels (one, or one for each axis).

    Random points of a coarse grid, blurred along one axis and then the other; each further octave
    adds blobs of half the size.
    """
    total = np.zeros(shape)
    for octave in range(octaves):
        blur = []
        for length, cell in zip(shape, np.broadcast_to(scale, 2) / 2**octave, strict=True):
            points = np.arange(int(length / cell) + 5)
            distance = (np.arange(length) / cell)[:, None] + 2 - points
            weights = np.exp(-(distance**2) / 0.7)
            blur.append(weights / weights.sum(axis=1, keepdims=True))
        grid = rng.normal(size=(blur[0].shape[1], blur[1].shape[1]))
        total += blur[0] @ grid @ blur[1].T / 2**octave
    return (total - total.min()) / np.ptp(total)


def disc(shape, y, x, radius) -> np.ndarray:
    """Distance from a point in radii: below 1 inside a disc, or an ellipse for two radii."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    ry, rx = np.broadcast_to(radius, 2)
    return np.hypot((rows - y) / ry, (columns - x) / rx)


def save(array: np.ndarray, path: Path, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(array, 0, 255).astype("uint8")).save(path, **options)


def write_flood(folder: Path, count: int, seed: int) -> Path:
    """Flooded land from above: Image/0.jpg, Mask/0.png, metadata.csv of Image, Mask."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        shape = [(192, 256), (256, 256), (192, 288)][number % 3]
        image, mask = paint_flood(rng, shape)
        save(image, folder / f"Image/{number}.jpg", quality=92)
        save(mask * 255, folder / f"Mask/{number}.png")
    rows = [(f"{number}.jpg", f"{number}.png") for number in range(count)]
    write_csv(folder / "metadata.csv", ["Image", "Mask"], rows)
    return folder


def paint_flood(rng, shape):
    """Brown water with soft edges over meadows and bare fields, which are as brown as the water."""
    rows, columns = np.indices(shape)
    brown, green = np.array([142, 118, 86]), np.array([92, 116, 62])
    sites = rng.uniform(0, shape, (14, 2))
    field = np.argmin([np.hypot(rows - y, columns - x) for y, x in sites], axis=0)
    angle = rng.uniform(0, np.pi, 14)[field]
    furrows = np.sin((rows * np.cos(angle) + columns * np.sin(angle)) * 0.65)
    bare = (rng.random(14) < 0.5)[field]
    grain = rng.normal(0, 7, shape)
    soil = brown + (26 * furrows + grain)[..., None]
    meadow = green + (60 * (noise(rng, shape, 6, 2) - 0.5) + grain)[..., None]
    land = np.where(bare[..., None], soil, meadow)

    height = noise(rng, shape, 80, 3)
    depth = np.quantile(height, rng.uniform(0.25, 0.55)) - height
    ripples = 24 * (noise(rng, shape, (5, 30), 2) - 0.5) + rng.normal(0, 2, shape)
    water = brown + ripples[..., None] + 14 * (noise(rng, shape, 60) - 0.5)[..., None]
    alpha = np.clip(0.5 + depth * 12, 0, 1)[..., None]  # some pixels of mud between wet and dry
    image, mask = alpha * water + (1 - alpha) * land, depth > 0

    for y, x in rng.uniform(0, shape, (rng.integers(6, 16), 2)):  # trees stand dry in the water
        tree = disc(shape, y, x, rng.uniform(5, 11)) + 0.25 * (noise(rng, shape, 5) - 0.5)
        shade = np.clip(1.25 - tree, 0, 1)[..., None] * np.array([70, 96, 44])
        image = np.where(tree[..., None] < 1, 20 + shade, image)
        mask &= tree >= 1
    light = 0.85 + 0.3 * noise(rng, shape, 120)
    return image * light[..., None] * rng.uniform(0.85, 1.1), mask


CLOUD_TYPES = ("Fish", "Flower", "Gravel", "Sugar")


def write_clouds(folder: Path, count: int, seed: int) -> Path:
    """Clouds from above, 1400x2100: train.csv of Image_Label, EncodedPixels; two image folders."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count + count // 8):
        image, masks = paint_clouds(rng, (350, 525))
        split = "train" if number < count else "test"
        picture = Image.fromarray(np.clip(image, 0, 255).astype("uint8")).resize((2100, 1400))
        path = folder / f"{split}_images/{number:07x}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.convert("RGB").save(path, quality=85)
        if split == "train":
            masks = masks.repeat(4, axis=0).repeat(4, axis=1)
            runs = segzoo.rle.encode_classes(masks)
            rows += [(f"{path.name}_{t}", r) for t, r in zip(CLOUD_TYPES, runs, strict=True)]
    write_csv(folder / "train.csv", ["Image_Label", "EncodedPixels"], rows)
    return folder


def paint_clouds(rng, shape):
    """One to three regions of a texture each; every texture is as bright and as dense as the next.

    Fish are long streaks, flowers wide blobs, gravel small ones, sugar is fine dust.
    """
    scales = {"Fish": (14, 110), "Flower": (80, 80), "Gravel": (24, 24), "Sugar": (9, 9)}
    image = 46 + 40 * noise(rng, shape, 200) + 30 * noise(rng, shape, 30, 3) ** 2
    masks = np.zeros((*shape, 4), "uint8")
    for kind in rng.choice(4, rng.integers(1, 4), replace=False):
        texture = noise(rng, shape, scales[CLOUD_TYPES[kind]]) + 0.1 * noise(rng, shape, 8)
        cloud = np.clip((texture - np.quantile(texture, 0.62)) * 9, 0, 1)
        radius = rng.uniform(0.25, 0.5, 2) * shape
        y, x = rng.uniform(0.2, 0.8, 2) * shape
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        box = np.maximum(abs(rows - y) / radius[0], abs(columns - x) / radius[1])
        region = box + 0.25 * (noise(rng, shape, 90) - 0.5) < 1  # annotators drew rough boxes
        soft = ndimage.gaussian_filter(region.astype(float), 6)
        image = np.maximum(image, image + (200 - image) * cloud * soft)
        masks[..., kind] = region
    return image + rng.normal(0, 4, shape), masks


# The class of a pixel is told by the red of its mask: class k has 20 k .. 20 k + 19.
STREET_CLASSES = {
    "car": (10, 20, 150),
    "bus": (30, 70, 110),
    "sign": (50, 200, 40),
    "building": (70, 70, 70),
    "hill": (90, 130, 110),
    "vegetation": (110, 142, 35),
    "road": (130, 64, 128),
    "pole": (150, 153, 153),
    "sky": (170, 205, 235),
    "fence": (190, 153, 153),
    "lane": (210, 170, 30),
    "person": (230, 20, 60),
    "sidewalk": (250, 35, 232),
}


def write_streets(folder: Path, count: int, seed: int) -> Path:
    """Streets, 256x512: train/1.jpg and val/1.jpg, the image left, its colored mask right."""
    rng = np.random.default_rng(seed)
    colors = np.array(list(STREET_CLASSES.values()))
    for number in range(count):
        image, labels = paint_street(rng)
        pair = np.concatenate([image, colors[labels]], axis=1)
        split = "val" if number % 5 == 4 else "train"
        save(pair, folder / split / f"{number + 1}.jpg", quality=97, subsampling=0)
    return folder


def paint_street(rng):
    """A street in perspective, painted from the sky to the person in front."""
    image, labels = Image.new("RGB", (256, 256)), Image.new("L", (256, 256))
    brushes, kinds = (ImageDraw.Draw(image), ImageDraw.Draw(labels)), list(STREET_CLASSES)

    def put(kind, shape, points, color, **options):
        for brush, fill in zip(brushes, (tuple(map(int, color)), kinds.index(kind)), strict=True):
            getattr(brush, shape)(points, fill=fill, **options)

    def gray(low, high):  # stone, asphalt, cars and coats share their colors
        return rng.uniform(low, high) + rng.uniform(-12, 12, 3)

    x0, y0 = rng.uniform(100, 156), rng.uniform(95, 120)  # the vanishing point

    def ground(distance, offset):  # a point on the street plane; distance 1 is at the lower edge
        return x0 + offset / distance, y0 + (256 - y0) / distance

    def upright(kind, shape, distance, offset, width, height, color, lift=0.0):
        x, y = ground(distance, offset)
        w, h = width / distance / 2, height / distance
        y -= lift / distance
        put(kind, shape, [x - w, y - h, x + w, y], color)

    put("sky", "rectangle", [0, 0, 256, 256], gray(120, 210) + np.array([0, 4, 12]))
    hills = [(x, y0 - rng.uniform(2, 34)) for x in range(0, 257, 32)]
    put("hill", "polygon", [(0, 256), *hills, (256, 256)], (84, 110, 70))
    put("sidewalk", "rectangle", [0, y0, 256, 256], gray(80, 170))
    edge = rng.uniform(110, 150)
    left, right = ground(1, -edge), ground(1, edge)
    put("road", "polygon", [(x0 - 2, y0), (x0 + 2, y0), right, left], gray(70, 150))
    for near, far in ((1, 1.25), (1.6, 2.1), (2.8, 4), (6, 9)):
        stripe = [ground(near, -4), ground(near, 4), ground(far, 4), ground(far, -4)]
        put("lane", "polygon", stripe, gray(160, 215))

    for side in (-1, 1):
        for distance in sorted(rng.uniform(1.1, 7, 5), reverse=True):
            far, wall = distance * 1.5, edge + rng.uniform(45, 70)
            top, color = rng.uniform(160, 380), gray(85, 170)
            (xa, ya), (xb, yb) = ground(distance, side * wall), ground(far, side * wall)
            corners = [(xa, ya), (xb, yb), (xb, yb - top / far), (xa, ya - top / distance)]
            put("building", "polygon", corners, color)
            for floor in np.arange(0.2, 0.9, 0.22):  # rows of windows, part of the house
                u, v = ya - top / distance * floor, yb - top / far * floor
                row = [(xa, u), (xb, v), (xb, v - 9 / far), (xa, u - 14 / distance)]
                put("building", "polygon", row, color * 0.7)
        if rng.random() < 0.6:
            (xa, ya), (xb, yb) = ground(1, side * (edge + 30)), ground(4, side * (edge + 30))
            rail = [(xa, ya), (xb, yb), (xb, yb - 30 / 4), (xa, ya - 30)]
            put("fence", "polygon", rail, gray(100, 160))
        for distance in sorted(rng.uniform(1.2, 5, rng.integers(0, 3)), reverse=True):
            offset, size = side * (edge + 40), rng.uniform(45, 75)
            upright("vegetation", "ellipse", distance, offset, size, size, (78, 106, 60), lift=40)
        for distance in sorted(rng.uniform(1.1, 4, 2), reverse=True):
            offset = side * (edge + rng.uniform(12, 24))
            upright("pole", "rectangle", distance, offset, 8, 130, gray(85, 130))
            if rng.random() < 0.7:
                color = rng.permutation([200, 70, 60])
                upright("sign", "rectangle", distance, offset, 28, 28, color, lift=105)
    for distance in sorted(rng.uniform(1.2, 5, rng.integers(1, 4)), reverse=True):
        kind, width, height = [("bus", 76, 96), ("car", 66, 44)][rng.random() < 0.65]
        offset, color = rng.choice([-1, 1]) * rng.uniform(40, 80), rng.uniform(50, 210, 3)
        upright(kind, "rectangle", distance, offset, width, height, color)
        upright(kind, "rectangle", distance, offset, width * 0.8, 14, (58, 62, 70), height * 0.6)
    for distance in sorted(rng.uniform(1.1, 3, rng.integers(1, 5)), reverse=True):
        offset, color = rng.choice([-1, 1]) * (edge + rng.uniform(0, 30)), rng.uniform(40, 190, 3)
        upright("person", "ellipse", distance, offset, 24, 62, color)
        upright("person", "ellipse", distance, offset, 15, 17, (190, 150, 125), lift=56)

    grain = rng.normal(0, 6, (256, 256)) + 40 * (noise(rng, (256, 256), 90) - 0.5)
    return np.asarray(image) + grain[..., None], np.asarray(labels)


def write_roofs(folder: Path, count: int, seed: int) -> Path:
    """Aerial images, 256x256: training/images/img, training/masks/img and test/images/img."""
    rng = np.random.default_rng(seed)
    for number in range(count + count // 8):
        image, mask = paint_roofs(rng)
        split = "training" if number < count else "test"
        save(image, folder / split / f"images/img/{number}.tif")
        if split == "training":
            save(mask * 255, folder / split / f"masks/img/{number}.tif")
    return folder


def paint_roofs(rng):
    """Gabled roofs with shadows, between paved yards of the very same colors."""
    shape = (256, 256)
    ground = noise(rng, shape, 90, 3)
    green, earth = np.array([88, 104, 66]), np.array([150, 134, 108])
    land = green + (earth - green) * np.clip(ground * 2 - 0.6, 0, 1)[..., None]
    image, mask = Image.fromarray(land.astype("uint8")), Image.new("L", shape)
    brush, marker = ImageDraw.Draw(image), ImageDraw.Draw(mask)
    tones = [(168, 92, 70), (128, 126, 124), (176, 160, 140), (96, 92, 96)]
    tilt = rng.uniform(0, np.pi)
    along, across = np.array([np.cos(tilt), np.sin(tilt)]), np.array([-np.sin(tilt), np.cos(tilt)])

    def corners(center, length, width):
        u, v = along * length / 2, across * width / 2
        return [tuple(center + a * u + b * v) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]

    for shift in rng.uniform(-150, 150, 2):  # roads
        brush.polygon(corners(128 + shift * across, 600, rng.uniform(10, 18)), fill=(122, 120, 118))
    plots = [128 + along * i * 62 + across * j * 52 for i in range(-3, 4) for j in range(-4, 5)]
    for center in plots + rng.uniform(-9, 9, (len(plots), 2)):
        tone = np.array(tones[rng.integers(4)]) * rng.uniform(0.8, 1.2) + rng.normal(0, 6, 3)
        length, width = rng.uniform(26, 50), rng.uniform(18, 30)
        kind = rng.choice(["yard", "roof", "tree"], p=[0.45, 0.42, 0.13])
        if kind == "yard":  # flat, without a shadow, as bright as one side of a roof
            tone *= rng.choice([1.12, 0.84])
            brush.polygon(corners(center, length, width), fill=tuple(tone.astype(int)))
        elif kind == "roof":
            brush.polygon(corners(center + np.array([5, 6]), length, width), fill=(42, 44, 46))
            for side, light in ((-1, 1.12), (1, 0.84)):  # the ridge parts sun from shade
                half = corners(center + side * across * width / 4, length, width / 2)
                brush.polygon(half, fill=tuple((tone * light).astype(int)))
            marker.polygon(corners(center, length, width), fill=1)
        else:
            r = rng.uniform(6, 12)
            box = [*(center - r), *(center + r)]
            brush.ellipse([v + 4 for v in box], fill=(46, 52, 42))
            brush.ellipse(box, fill=(64, 86, 50))
            marker.ellipse(box, fill=0)  # a tree hides the roof below it
    texture = rng.normal(0, 7, shape) + 30 * (noise(rng, shape, 4) - 0.5)
    image = ndimage.gaussian_filter(np.asarray(image, float), (0.6, 0.6, 0))
    return image + texture[..., None], np.asarray(mask)


def write_steel(folder: Path, count: int, seed: int) -> Path:
    """Steel strips, 256x1600: train.csv of ImageId, ClassId, EncodedPixels; train_images/*.jpg."""
    rng = np.random.default_rng(seed)
    rows = []
    for number in range(count):
        image, masks = paint_steel(rng)
        name = f"{number:09x}.jpg"
        save(np.repeat(image[..., None], 3, axis=-1), folder / "train_images" / name, quality=92)
        runs = segzoo.rle.encode_classes(masks)
        rows += [(name, k, r) for k, r in enumerate(runs, 1) if r]
    write_csv(folder / "train.csv", ["ImageId", "ClassId", "EncodedPixels"], rows)
    return folder


def paint_steel(rng):
    """Rolled steel with harmless dark bands and, on it: pits, cracks, scratches, scale."""
    shape = (256, 1600)
    image = 105 + 45 * (noise(rng, shape, (400, 160), 3) - 0.5) + 22 * noise(rng, shape, (120, 6))
    masks = [Image.new("L", shape[::-1]) for _ in range(4)]
    pits, cracks, scratches, scale = (ImageDraw.Draw(mask) for mask in masks)
    present = rng.random(4) < 0.6
    for y, x in rng.uniform((30, 60), (226, 1540), (rng.integers(2, 5) * present[0], 2)):
        for _ in range(rng.integers(4, 9)):
            v, u, r = rng.normal(y, 26), rng.normal(x, 26), rng.uniform(6, 11)
            pits.ellipse([u - r, v - r, u + r, v + r], fill=1)
    for y, x in rng.uniform((10, 40), (120, 1560), (rng.integers(2, 6) * present[1], 2)):
        steps = np.arange(y, y + rng.uniform(70, 140), 12)
        line = list(zip(x + rng.normal(0, 1.5, len(steps)).cumsum(), steps, strict=True))
        cracks.line(line, fill=1, width=9)
    for y, x in rng.uniform((20, 0), (236, 1300), (rng.integers(1, 4) * present[2], 2)):
        dy, dx = rng.uniform(-70, 70), rng.uniform(160, 420)
        scratches.line([(x, y), (x + dx, y + dy)], fill=1, width=int(rng.integers(10, 16)))
    ragged = noise(rng, shape, 26, 2) * 0.9
    for y, x in rng.uniform((60, 100), (196, 1500), (rng.integers(1, 3) * present[3], 2)):
        patch = disc(shape, y, x, rng.uniform((45, 70), (80, 150))) + ragged < 1.1
        scale.bitmap((0, 0), Image.fromarray((patch * 255).astype("uint8")), fill=1)
    masks = np.stack([np.asarray(mask) for mask in masks], axis=-1)

    soft = ndimage.gaussian_filter(masks.astype(float), (1.5, 1.5, 0))
    rough = noise(rng, shape, 6) + 0.3
    image -= 48 * soft[..., 0] + 44 * soft[..., 1] + 60 * rough * soft[..., 3]
    image += 44 * soft[..., 2] * rng.choice([-1, 1])  # scratches are bright or dark
    for x in rng.uniform(0, 1600, rng.integers(1, 4)):  # bands that are no defect
        image -= 45 * np.clip(1.5 - abs(np.arange(1600) - x) / rng.uniform(8, 40), 0, 1)
    return image + rng.normal(0, 5, shape), masks


LAND_COLORS = {
    "field": (214, 190, 120),
    "water": (60, 120, 200),
    "forest": (40, 130, 60),
    "road": (200, 60, 60),
}


def write_land(folder: Path, height: int, seed: int) -> Path:
    """A scene from above, 4/3 as wide as high: scene.npy (H, W, 3), labels.npy (H, W), uint8."""
    image, labels = paint_land(np.random.default_rng(seed), (height, height * 4 // 3))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "scene.npy", np.clip(image, 0, 255).astype("uint8"))
    np.save(folder / "labels.npy", labels)
    return folder


def paint_land(rng, shape):
    """Fields, water, forest and roads; roads are pale like bare fields, forest green like meadows.

    What tells them apart is texture: furrows, ripples, crowns, and the narrow band of a road.
    """
    rows, columns = np.indices(shape, dtype="float32")
    seeds = np.ones(shape, bool)
    count = max(8, shape[0] * shape[1] // 9000)
    seeds[rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)] = False
    nearest = ndimage.distance_transform_edt(seeds, return_distances=False, return_indices=True)
    field = nearest[0] * shape[1] + nearest[1]
    angle, bare = rng.uniform(0, np.pi, seeds.size), rng.random(seeds.size) < 0.5
    along = rows * np.cos(angle)[field] + columns * np.sin(angle)[field]
    furrows = np.sin(0.65 * along)[..., None]
    grain = rng.normal(0, 6, shape)[..., None]
    soil = np.array([158, 140, 110]) + 22 * furrows
    meadow = np.array([92, 116, 66]) + 10 * furrows
    image = np.where(bare[field][..., None], soil, meadow) + grain
    labels = np.zeros(shape, "uint8")

    def lay(kind, where, color):
        image[where] = color[where]
        labels[where] = list(LAND_COLORS).index(kind)

    crowns = noise(rng, shape, 7)[..., None]
    wood = noise(rng, shape, 60, 3)
    lay("forest", wood > np.quantile(wood, 0.7), np.array([40, 62, 26]) + 90 * crowns + grain)
    marks = Image.new("L", shape[::-1])
    brush = ImageDraw.Draw(marks)
    for _ in range(3 + shape[0] // 200):
        (y, x), turn = rng.uniform(0, shape), rng.uniform(0, np.pi)
        step = 2 * max(shape) * np.array([np.cos(turn), np.sin(turn)])
        brush.line([(x - step[0], y - step[1]), (x + step[0], y + step[1])], fill=1, width=7)
    lay("road", np.asarray(marks) > 0, np.array([156, 142, 116]) + 0.5 * grain)
    height = noise(rng, shape, 90, 3)
    ripples = 26 * (noise(rng, shape, (4, 24), 2) - 0.5)[..., None]
    lay("water", height < np.quantile(height, 0.22), np.array([118, 122, 84]) + ripples + grain / 3)
    light = 0.85 + 0.3 * noise(rng, shape, 120)[..., None]
    return ndimage.gaussian_filter(image, (0.6, 0.6, 0)) * light, labels
