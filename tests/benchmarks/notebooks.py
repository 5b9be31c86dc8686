"""The notebooks' own networks in plain Keras 3, to measure segzoo's beside.

Five public notebooks each solve one task by hand; segzoo offers the same networks. These are the
graphs as the notebooks have them, detours included (a last 3x3 convolution at full resolution, two
dropouts in every node, a transposed convolution from 1024 channels), and nested as they nest them,
since that is what a first step traces. Weights are random. No file of segzoo is imported here.
"""

import keras
from keras import layers


class FloodBlock(layers.Layer):
    """Convolution, batch normalization, ReLU: a layer around a `Sequential`."""

    def __init__(self, filters=256, kernel_size=3, dilation_rate=1, **kwargs):
        super().__init__(**kwargs)
        convolution = layers.Conv2D(
            filters, kernel_size, padding="same", dilation_rate=dilation_rate, use_bias=False
        )
        self.chain = keras.Sequential([convolution, layers.BatchNormalization(), layers.ReLU()])

    def call(self, x):
        return self.chain(x)


def flood_deeplab(size=256):
    """DeepLabV3+ on ResNet50 for water: two inner taps, nearest upsampling, one class."""
    image = keras.Input((size, size, 3))
    encoder = keras.applications.ResNet50(input_tensor=image, weights=None, include_top=False)
    x = encoder.get_layer("conv4_block6_2_relu").output  # (B, H/16, W/16, 256)
    side = x.shape[1]

    pooled = FloodBlock(kernel_size=1)(layers.AveragePooling2D(side)(x))
    branches = [layers.UpSampling2D(side)(pooled), FloodBlock(kernel_size=1)(x)]
    branches += [FloodBlock(dilation_rate=rate)(x) for rate in (6, 12, 18)]
    x = FloodBlock(kernel_size=1)(layers.Concatenate()(branches))

    low = FloodBlock(48, kernel_size=1)(encoder.get_layer("conv2_block3_2_relu").output)
    x = layers.Concatenate()([low, layers.UpSampling2D(4)(x)])
    x = FloodBlock()(FloodBlock()(x))  # (B, H/4, W/4, 256)
    x = layers.UpSampling2D(4)(x)
    x = layers.Conv2D(1, 3, padding="same", activation="sigmoid", use_bias=False)(x)
    return keras.Model(image, x)


def clouds_unet_plus_plus(shape=(256, 384, 1), classes=4, dropout=0.5):
    """UNet++ as its authors published it: ELU, dropout behind each convolution, L2."""
    widths = (32, 64, 128, 256, 512)
    style = {"kernel_initializer": "he_normal", "padding": "same"}

    def node(x, filters):
        for _ in range(2):
            decay = keras.regularizers.L2(1e-4)
            x = layers.Conv2D(filters, 3, activation="elu", kernel_regularizer=decay, **style)(x)
            x = layers.Dropout(dropout)(x)
        return x

    image = keras.Input(shape)
    grid = [[node(image, widths[0])]]
    for filters in widths[1:]:
        grid.append([node(layers.MaxPooling2D(2)(grid[-1][0]), filters)])
    for column in range(1, len(widths)):
        for row, filters in enumerate(widths[:-column]):
            below = grid[row + 1][column - 1]
            up = layers.Conv2DTranspose(filters, 2, strides=2, padding="same")(below)
            grid[row].append(node(layers.Concatenate()([up, *grid[row]]), filters))
    # Without deep supervision the notebook's heads of the shallower columns lead nowhere.
    head = layers.Conv2D(
        classes, 1, activation="sigmoid", kernel_regularizer=keras.regularizers.L2(1e-4), **style
    )
    return keras.Model(image, head(grid[0][-1]))


def streets_fcn(stride=8, size=256, classes=13):
    """FCN-8s or FCN-32s on VGG16: transposed convolutions as wide as their stride."""
    encoder = keras.applications.VGG16(include_top=False, weights=None, input_shape=(size, size, 3))
    x = layers.Conv2D(1024, 7, padding="same", activation="relu")(encoder.output)
    x = layers.Conv2D(1024, 1, padding="same", activation="relu")(x)
    for finer in ("block4_pool", "block3_pool") if stride == 8 else ():
        score = layers.Conv2D(classes, 1, activation="relu")(encoder.get_layer(finer).output)
        x = layers.Add()([layers.Conv2DTranspose(classes, 2, strides=2)(x), score])
    x = layers.Conv2DTranspose(classes, stride, strides=stride)(x)
    return keras.Model(encoder.input, layers.Activation("softmax")(x))


def roofs_effnet_unet(variant="B0", size=256):
    """U-Net on the `efficientnet` package's network, with bilinear upsampling and dropout."""
    import efficientnet.tfkeras as efficientnet

    encoder = getattr(efficientnet, f"EfficientNet{variant}")(
        weights=None, include_top=False, input_shape=(size, size, 3)
    )
    x = encoder.output
    stages = (
        ("block6a_expand_activation", 256, 0.5),
        ("block4a_expand_activation", 128, 0.5),
        ("block3a_expand_activation", 64, 0.5),
        ("block2a_expand_activation", 32, 0.25),
        (None, 16, 0.25),
    )
    for skip, filters, rate in stages:
        x = layers.UpSampling2D(2, interpolation="bilinear")(x)
        if skip:
            x = layers.Concatenate()([x, encoder.get_layer(skip).output])
        x = layers.Dropout(rate)(x)
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", kernel_initializer="he_normal")(x)
            x = layers.Activation("relu")(layers.BatchNormalization()(x))
    return keras.Model(encoder.input, layers.Conv2D(1, 1, activation="sigmoid")(x))


class SteelSeparable(keras.Model):
    """Depthwise and pointwise convolution, both normalized, ReLU before or between and behind."""

    def __init__(self, filters, strides=1, rate=1, activate=False):
        super().__init__()
        self.activate = activate
        # A stride comes with explicit padding of one pixel on every side.
        self.pad = layers.ZeroPadding2D(rate) if strides > 1 else None
        self.depthwise = layers.DepthwiseConv2D(
            3, strides, padding="valid" if self.pad else "same", dilation_rate=rate
        )
        self.normalize_depthwise = layers.BatchNormalization()
        self.pointwise = layers.Conv2D(filters, 1)
        self.normalize_pointwise = layers.BatchNormalization()

    def call(self, x):
        if self.pad:
            x = self.pad(x)
        if not self.activate:
            x = keras.ops.relu(x)
        x = self.normalize_depthwise(self.depthwise(x))
        if self.activate:
            x = keras.ops.relu(x)
        x = self.normalize_pointwise(self.pointwise(x))
        return keras.ops.relu(x) if self.activate else x


class SteelBlock(keras.Model):
    """Three separable convolutions beside a shortcut: a convolution, the input, or none."""

    def __init__(self, filters, shortcut=None, strides=1, rate=1, activate=False):
        super().__init__()
        self.parts = [
            SteelSeparable(n, s, rate, activate)
            for n, s in zip(filters, (1, 1, strides), strict=True)
        ]
        self.shortcut = shortcut
        if shortcut == "conv":
            self.project = layers.Conv2D(filters[-1], 1, strides)
            self.normalize = layers.BatchNormalization()

    def call(self, x):
        inner = self.parts[1](self.parts[0](x))
        y = self.parts[2](inner)
        if self.shortcut == "conv":
            y = y + self.normalize(self.project(x))
        elif self.shortcut == "sum":
            y = y + x
        return y, inner


class SteelDeepLab(keras.Model):
    """DeepLabV3+ on the aligned Xception, output stride 16, sigmoid at a quarter of the size."""

    def __init__(self, classes=4):
        super().__init__()

        def convolve(filters, kernel_size=1, strides=1):
            convolution = layers.Conv2D(filters, kernel_size, strides, padding="same")
            return convolution, layers.BatchNormalization()

        self.stem = [convolve(32, 3, 2), convolve(64, 3)]
        self.entry = [SteelBlock([n] * 3, "conv", 2) for n in (128, 256, 728)]
        self.middle = [SteelBlock([728] * 3, "sum") for _ in range(16)]
        self.leave = [
            SteelBlock([728, 1024, 1024], "conv"),
            SteelBlock([1536, 1536, 2048], rate=2, activate=True),
        ]
        self.atrous = [SteelSeparable(256, rate=rate, activate=True) for rate in (6, 12, 18)]
        self.pool = layers.AveragePooling2D(8)
        self.pooled, self.point, self.merged = convolve(256), convolve(256), convolve(256)
        self.low = convolve(48)
        self.dropout = layers.Dropout(0.1)
        self.last = SteelSeparable(256, activate=True)
        self.head = layers.Conv2D(classes, 1, activation="sigmoid")
        self.upsample = layers.UpSampling2D(4)

    @staticmethod
    def _relu_block(parts, x):
        convolution, normalization = parts
        return keras.ops.relu(normalization(convolution(x)))

    def call(self, image):
        x = self._relu_block(self.stem[0], image)
        convolution, normalization = self.stem[1]
        x = normalization(convolution(x))
        x, _ = self.entry[0](x)
        x, low = self.entry[1](x)
        for block in (self.entry[2], *self.middle, *self.leave):
            x, _ = block(x)  # (B, H/16, W/16, C)

        pooled = self._relu_block(self.pooled, self.pool(x))
        branches = [keras.ops.image.resize(pooled, x.shape[1:3]), self._relu_block(self.point, x)]
        branches += [branch(x) for branch in self.atrous]
        x = self._relu_block(self.merged, keras.ops.concatenate(branches, -1))
        x = self.upsample(self.dropout(x))
        x = keras.ops.concatenate([x, self._relu_block(self.low, low)], -1)
        return self.upsample(self.head(self.last(x)))


def steel_deeplab(shape=(128, 800, 3), classes=4):
    """DeepLabV3+ on the aligned Xception: models inside models, called once to be built."""
    model = SteelDeepLab(classes)
    model(keras.ops.zeros((1, *shape)))
    return model
