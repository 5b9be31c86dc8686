"""One policy for the arguments of builders: order, meaning and words are the same everywhere."""

import inspect
import re

import keras
import numpy as np
import pytest

from segzoo import models
from tests.cases import MODELS, SMALL, TINY, some, tiny_backbone

# What a shared argument means, in every builder that has it. A builder may go on from there.
SHARED = {
    "backbone": "a name from `segzoo.backbones.names()`, or a `keras.Model` whose outputs are "
    "feature maps, finest first.",
    "classes": "int >= 1, number of output channels.",
    "input_shape": "(height, width, channels); height and width are at least 32, or None for any "
    "size.",
    "output_stride": "8, 16 or 32, the stride of the backbone's last map; dilation replaces the "
    "strides beyond it. A `keras.Model` keeps its own.",
    "aspp_dilations": "dilation rates of the pyramid. None means (12, 24, 36) at output stride "
    "8, (6, 12, 18) at 16, (3, 6, 9) at 32.",
    "separable": "bool, whether the 3x3 convolutions of pyramid and decoder are separable.",
    "bin_sizes": "ints >= 1, numbers of regions along each axis in the pyramid pooling. The "
    "regions overlap where the map's size is not a multiple of their number.",
    "dropout": "rate in [0, 1), ",
    "upsampling": '`"bilinear"`, `"nearest"` or `"transpose"`, a learned 2x2 convolution.',
    "block_activation": "activation of the convolution blocks, a name or a function.",
    "normalization": '`"batch"`, `"group"`, `"layer"`, `"instance"` or None, in the convolution '
    "blocks of the decoder and of the builder's own encoder.",
    "attention": 'None; `"scse"`, concurrent squeeze and excitation (Roy et al. 2018) of each ',
    "kernel_regularizer": "regularizer of every convolution outside the backbone.",
    "deep_supervision": "bool, whether every ",
    "backbone_weights": 'weights of a named backbone: None for random ones, `"imagenet"`, '
    '`"noisy-student"` (EfficientNet), `"imagenet-nc"` (Mix Transformers) or the path of a weights '
    "file.",
    "backbone_features": "names of the layers whose outputs replace the backbone's feature maps, "
    "finest first.",
    "weights": "path of weights of the whole model, which replace `backbone_weights`.",
    "auxiliary": "None, or the level (8, 16 or 32) of a backbone map that gets an auxiliary fully "
    "convolutional head; the outputs are then a list, the auxiliary output first.",
    "activation": 'activation of the output. `"auto"` is sigmoid for one class and softmax for '
    'several; `"sigmoid"` is for multi-label segmentation; None gives logits.',
    "preprocessing": "bool, whether a model on a named backbone takes RGB in 0..255 and "
    "normalizes it itself.",
    "name": "name of the model.",
}
# What every builder has, in this order: first, and last.
FIRST = ["backbone", "classes", "input_shape"]
LAST = [
    "backbone_weights",
    "backbone_features",
    "weights",
    "auxiliary",
    "activation",
    "preprocessing",
    "name",
]
BUILDERS = {name: getattr(models, name) for name in MODELS}
PARAMETERS = {name: inspect.signature(build).parameters for name, build in BUILDERS.items()}


def entries(docstring):
    """The arguments that a docstring explains, each in one line."""
    section = re.search(r"\nArgs:\n(.*?)\n\n", inspect.cleandoc(docstring), re.S)
    found = {}
    for line in section[1].splitlines():
        start = re.match(r" {4}(\w+): (.*)", line)
        if start:
            found[start[1]] = start[2]
            last = start[1]
        else:
            found[last] += " " + line.strip()
    return found


@pytest.mark.parametrize("name", BUILDERS)
def test_the_arguments_that_all_builders_have_stand_in_one_order(name):
    given = list(PARAMETERS[name])
    assert given[1:3] == FIRST[1:] and given[-len(LAST) :] == LAST
    assert given[0] == ("variant" if name == "EffNetUNet" else "backbone")
    for argument in FIRST[1:] + LAST:
        ours, others = PARAMETERS[name][argument], PARAMETERS["UNet"][argument]
        assert (ours.default, ours.annotation) == (others.default, others.annotation), argument


@pytest.mark.parametrize("name", BUILDERS)
def test_every_argument_is_explained_with_its_default_and_shared_ones_in_the_same_words(name):
    explained = entries(BUILDERS[name].__doc__)
    assert list(explained) == list(PARAMETERS[name])
    for argument, text in explained.items():
        assert text.startswith(SHARED.get(argument, "")), f"{argument}: see SHARED"
        default = PARAMETERS[name][argument].default
        shown = f'`"{default}"`' if isinstance(default, str) else str(default)
        shown = r"`\"\w+\"`.*" if argument == "name" else re.escape(shown)
        assert re.search(rf"Defaults to {shown}\.$", text), f"{argument}: its default is last"


@pytest.mark.parametrize("name", BUILDERS)
def test_an_argument_that_a_builder_has_not_names_the_near_ones(name):
    build = BUILDERS[name]
    with pytest.raises(TypeError, match=f"{name}.*`preprocesing`.*`preprocessing`"):
        build(preprocesing=True)
    with pytest.raises(TypeError, match=f"{name}.*`encoder_weights`.*`backbone_weights`"):
        build(encoder_weights=None)


@pytest.mark.parametrize(
    ("name", "word", "ours"),
    [
        ("UNet", "encoder_name", "`backbone`"),
        ("EffNetUNet", "backbone_name", "`variant`"),
        ("FPN", "encoder_weights", "`backbone_weights`"),
        ("UNet", "in_channels", "the last entry of `input_shape`"),
        ("UNet", "num_classes", "`classes`"),
        ("UNet", "decoder_channels", "`decoder_filters`"),
        ("UNetPlusPlus", "decoder_channels", "`filters`"),
        ("FPN", "decoder_pyramid_channels", "`pyramid_filters`"),
        ("DeepLabV3Plus", "decoder_atrous_rates", "`aspp_dilations`"),
        ("PSPNet", "downsample_factor", "`output_stride`"),
        ("UNet", "encoder_depth", "`backbone_features`, the maps to take"),
        ("UNet", "encoder_freeze", "`model.get_layer('backbone').trainable = False`"),
    ],
)
def test_the_words_of_other_libraries_are_translated(name, word, ours):
    with pytest.raises(TypeError) as error:
        BUILDERS[name](**{word: None})
    assert str(error.value) == f"`{name}` has no argument `{word}`; here it is {ours}"


def test_a_word_for_what_a_builder_has_not_is_not_translated():
    with pytest.raises(TypeError, match=r"`decoder_attention_type`; (near|it has)"):
        models.FPN(decoder_attention_type="scse")


# Integers and rates of NumPy for every argument that takes numbers, by the names of `SMALL`.
def of_numpy(value):
    """The same value in NumPy's numbers."""
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, tuple):
        return np.array(value)
    return np.int64(value) if isinstance(value, int) else np.float32(value)


@pytest.mark.parametrize(
    "name",
    some([*TINY, "UNetPlusPlus-own-deep", "DeepLabV3-separable"], ["FPN", "UNet", "DeepLabV3Plus"]),
)
def test_numbers_of_numpy_are_numbers(name, tmp_path):
    case = SMALL[name]
    defaults = {k: p.default for k, p in PARAMETERS[case.builder].items()}
    small = {"aspp_dilations": (2, 3), "output_stride": 16, "stride": 16, **case.options}
    options = {k: small.get(k, v) for k, v in defaults.items() if k not in FIRST and k != "weights"}
    options["backbone_weights"] = None
    # Rates as they are in 32 bits.
    options |= {k: float(np.float32(v)) for k, v in options.items() if isinstance(v, float)}
    if case.backbone is not None and not options.get("deep_supervision"):
        options["auxiliary"] = 16
    plain = case(3, (64, 48, 3), **options)
    model = case(
        np.uint8(3),
        np.array([64, 48, 3]),
        **{argument: of_numpy(value) for argument, value in options.items()},
    )
    assert [w.shape for w in model.weights] == [w.shape for w in plain.weights]
    assert model.to_json() == plain.to_json()


@pytest.mark.parametrize("name", TINY)
def test_a_bool_is_no_number_and_a_text_no_flag(name):
    backbone, build = tiny_backbone(), BUILDERS[name]
    for argument, parameter in PARAMETERS[name].items():
        if argument in ("backbone", "weights", "name"):
            continue
        number = isinstance(parameter.default, int | float | tuple) or argument in (
            "auxiliary",
            "aspp_dilations",
        )
        if isinstance(parameter.default, bool):
            wrong = "no"
        elif number:
            wrong = True
        else:
            wrong = {"activation": "tanh", "upsampling": "cubic", "merge": "mean"}.get(
                argument, 5.5
            )
            with pytest.raises(ValueError, match=f"`{argument}`"):
                build(backbone, **{"classes": 2, argument: np.array([0.5, 2.0])})
        values = {"classes": 2, "input_shape": (64, 64, 3), argument: wrong}
        with pytest.raises(ValueError, match=f"`{argument}`"):
            build(backbone, **values)


WRONG = {
    "weights as a number": (
        lambda: models.UNet("vgg16", backbone_weights=5),
        "`backbone_weights`.*5",
    ),
    "whole weights as a number": (lambda: models.FPN("vgg16", weights=5), "`weights`.*path.*5"),
    "no shape": (lambda: models.UNet(None, 1, None), "`input_shape`.*None"),
    "a shape of one number": (lambda: models.UNet(None, 1, 64), "`input_shape`.*64"),
    "a shape of floats": (lambda: models.UNet(None, 1, (64.0, 64, 3)), r"`input_shape`.*64\.0"),
    "a shape of no dimension": (lambda: models.UNet(None, 1, np.array(64)), "`input_shape`.*64"),
    "a misspelled activation": (
        lambda: models.UNet(None, block_activation="rellu"),
        "`block_activation`.*'rellu'; near names: relu",
    ),
    "a misspelled regularizer": (
        lambda: models.UNet(None, kernel_regularizer="l3"),
        "`kernel_regularizer`.*'l3'",
    ),
    "a number as a name": (lambda: models.UNet(None, name=5), "`name`.*5"),
    "the backbone's weights for the whole": (
        lambda: models.UNet("vgg16", weights="imagenet"),
        "`weights`.*'imagenet'; weights of the backbone alone are `backbone_weights`",
    ),
    "weights that nothing would load": (
        lambda: models.UNet(tiny_backbone(), backbone_weights="mine.weights.h5"),
        "`backbone_weights` must be left out with a keras.Model.*mine",
    ),
    "weights for the own encoder": (
        lambda: models.UNet(None, backbone_weights="mine.weights.h5"),
        "`backbone_weights` must be left out with None.*mine",
    ),
    "color in a model of gray": (
        lambda: models.UNet(None, 1, (64, 64, 1), decoder_filters=(4, 4))(np.zeros((1, 64, 64, 3))),
        "must get 1 channel, received.*`input_shape`",
    ),
    "one width": (
        lambda: models.UNet(None, decoder_filters=8),
        "`decoder_filters` must be a list of ints >= 1, at least 1 of them, received .*8",
    ),
    "a rate as a text": (lambda: models.UNet(None, decoder_dropout="a"), "`decoder_dropout`.*'a'"),
    "rates of the wrong number": (
        lambda: models.UNet(None, decoder_dropout=np.array([0.1, 0.2])),
        "`decoder_dropout`.*5",
    ),
    "a rate past one": (
        lambda: models.UNet(None, decoder_filters=(8, 8), decoder_dropout=np.array([0.1, 2.0])),
        r"`decoder_dropout`.*2\.0",
    ),
    "a flag as a text": (lambda: models.UNet(None, preprocessing="no"), "`preprocessing`.*'no'"),
    "taps as one text": (
        lambda: models.UNet(tiny_backbone(), backbone_features="tiny_stage_1"),
        "`backbone_features`.*list.*tiny_stage_1",
    ),
    "a variant that is none": (lambda: models.EffNetUNet("b9"), "`variant`.*'b9'"),
    "a variant that is no text": (lambda: models.EffNetUNet(0), "`variant`.*0"),
    "an auxiliary head beside deep supervision": (
        lambda: models.UNetPlusPlus(
            tiny_backbone(), 2, filters=(4,) * 5, deep_supervision=True, auxiliary=16
        ),
        "`auxiliary`.*`deep_supervision=True`",
    ),
    "a level that has no head": (
        lambda: models.FPN(tiny_backbone(), auxiliary=4),
        "`auxiliary`.*4",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_a_value_of_another_type_is_an_error_that_names_the_argument(what):
    make, message = WRONG[what]
    with pytest.raises(ValueError, match=message):
        make()


def test_options_of_a_backbone_are_errors_with_the_builders_own_encoder():
    own = [name for name, p in PARAMETERS.items() if "None" in str(p[next(iter(p))].annotation)]
    assert own == ["UNet", "UNet3Plus", "UNetPlusPlus"]
    for name in own:
        for argument, value in {"backbone_features": ["a", "b"], "auxiliary": 16}.items():
            with pytest.raises(ValueError, match=f"`{argument}` must be None with `backbone=None`"):
                BUILDERS[name](None, 1, **{argument: value})


def test_other_words_for_the_same_are_taken():
    linear = models.UNet(None, 2, decoder_filters=(4, 4), activation="linear")
    assert linear.get_layer("output").activation is keras.activations.linear
    from segzoo.models import unet

    assert [unet._check_variant(word) for word in ("B0", "efficientnetb0", "L2")] == [
        "b0",
        "b0",
        "l2",
    ]


def test_images_of_other_channels_are_refused_by_the_number_that_the_model_takes():
    model = models.FPN(tiny_backbone(1), 2, (None, None, 1), decoder_filters=32)
    with pytest.raises(ValueError, match="images must have 1 channel, as the model was built for"):
        model(np.zeros((1, 64, 64, 3)))
