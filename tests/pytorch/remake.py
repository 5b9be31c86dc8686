"""Make `outputs` anew: what PyTorch's libraries compute with weights that follow from their names.

    python -m tests.pytorch.remake [name ...]

needs torch, torchvision, timm, segmentation_models_pytorch 0.6 and transformers, but not Keras.
Each case is a function that returns a network, the maps to look at and a configuration.
"""

import json
import math
import pathlib
import sys
import tempfile
import warnings
import zlib
from collections.abc import Callable
from functools import partial

import numpy as np
import segmentation_models_pytorch as smp
import timm
import torch
import torchvision
import transformers
from safetensors.numpy import load_file, save_file

from tests.pytorch import by_name
from tests.pytorch.published import DOUBLE, OUTPUTS

SIZES = ((64, 96), (97, 65))
DIVISIBLE = ((64, 96), (96, 160))  # by 32


def main(wanted: list[str]) -> None:
    warnings.simplefilter("ignore")
    OUTPUTS.mkdir(exist_ok=True)
    for name, (make, sizes) in CASES.items():
        if wanted and not any(name.startswith(start) for start in wanted):
            continue
        network, forward, config = make()
        store(name, network.eval(), forward, config, sizes)


@torch.inference_mode()
def store(name: str, network, forward: Callable, config: dict | None, sizes) -> None:
    channels = (config or {}).get("in_channels", 3)
    exponents: dict[str, int] = {}
    # Transformers writes other names than its modules have: its own loader translates them.
    by_file = isinstance(network, transformers.PreTrainedModel)
    shapes = _fill_by_file(network) if by_file else _fill(network)
    hooks = [
        module.register_forward_pre_hook(partial(_fit_variance, exponents, key))
        for key, module in network.named_modules()
        if isinstance(module, torch.nn.BatchNorm2d)
    ]
    forward(_image(sizes[0], channels))
    for hook in hooks:
        hook.remove()
    dtype = torch.float64 if name in DOUBLE else torch.float32
    network.to(dtype)
    maps = {}
    for size in sizes:
        images = _image(size, channels).to(dtype)
        found = [m.permute(0, 2, 3, 1).numpy() for m in forward(images)]
        assert all(np.isfinite(m).all() for m in found)
        maps["x".join(map(str, size))] = np.stack([by_name.sample(m) for m in found])
    text = json.dumps({"shapes": shapes, "exponents": exponents, "config": config})
    packed = np.frombuffer(zlib.compress(text.encode(), 9), "uint8")
    np.savez(OUTPUTS / f"{name}.npz", text=packed, **maps)
    spreads = [f"{m.std():.2g}" for m in maps["x".join(map(str, sizes[0]))]]
    print(name, len(shapes), "tensors; spread", *spreads, flush=True)


def _fill(network) -> dict[str, list[int]]:
    for key, value in network.state_dict().items():
        value.copy_(torch.from_numpy(by_name.tensor(key, tuple(value.shape))))
    return {key: list(value.shape) for key, value in network.state_dict().items()}


def _fill_by_file(network) -> dict[str, list[int]]:
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        path = pathlib.Path(folder) / "model.safetensors"
        tensors = load_file(path)
        save_file(
            {k: by_name.tensor(k, v.shape) for k, v in tensors.items()}, path, {"format": "pt"}
        )
        network.load_state_dict(type(network).from_pretrained(folder).state_dict())
    return {key: list(value.shape) for key, value in tensors.items()}


def _fit_variance(exponents: dict[str, int], key: str, module, args) -> None:
    """Give a batch normalization the variance of its input, to a power of two."""
    exponent = round(math.log2(max(float(args[0].var(unbiased=False)), 1e-6)))
    exponents[f"{key}.running_var"] = exponent
    shape = tuple(module.running_var.shape)
    value = by_name.tensor(f"{key}.running_var", shape, exponent)
    module.running_var.copy_(torch.from_numpy(value))


def _image(size: tuple[int, int], channels: int) -> torch.Tensor:
    return torch.from_numpy(by_name.image(*size, channels)).permute(0, 3, 1, 2)


# Encoders


def hooked(network, *places: str, config: dict | None = None):
    """A network and the outputs of some of its modules, in the order of the names."""
    modules = dict(network.named_modules())

    def forward(x):
        found = {}
        hooks = [
            modules[place].register_forward_hook(
                lambda module, args, output, place=place: found.setdefault(place, output)
            )
            for place in places
        ]
        network(x)
        for hook in hooks:
            hook.remove()
        return [found[place] for place in places]

    return network, forward, config


def torchvision_case(name: str, *places: str):
    return hooked(getattr(torchvision.models, name)(), *places)


def timm_case(name: str, *places: str):
    network = timm.create_model(name)
    return hooked(network, *places, config={"architecture": name})


def smp_encoder(name: str):
    network = smp.encoders.get_encoder(name, weights=None)
    return network, lambda x: [m for m in network(x)[1:] if m.shape[1]], {"encoder_name": name}


def segformer_classifier(**config):
    network = transformers.SegformerForImageClassification(transformers.SegformerConfig(**config))

    def forward(x):
        return network.segformer(x, output_hidden_states=True).hidden_states

    return network, forward, network.config.to_dict()


RESNETS = (
    *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
    *("resnext50_32x4d", "resnext101_32x8d"),
)
RESNET = ("relu", "layer1", "layer2", "layer3", "layer4")
MBCONV = ("blocks.1.0.bn1", "blocks.2.0.bn1", "blocks.3.0.bn1", "blocks.5.0.bn1", "bn2")
CONVNEXT = ("stages.0", "stages.1", "stages.2", "stages.3")
MOBILENET = (*(f"features.{n}.conv.0" for n in (2, 4, 7, 14)), "features.18")
SMP_ENCODERS = (
    *("se_resnet50", "se_resnet101"),
    *("se_resnext50_32x4d", "se_resnext101_32x4d", "mobilenet_v2"),
    *(f"efficientnet-b{n}" for n in range(8)),
    *(f"timm-efficientnet-b{n}" for n in range(8)),
    *(f"timm-tf_efficientnet_lite{n}" for n in (0, 1, 4)),
    *(f"mit_b{n}" for n in range(6)),
)

CASES: dict[str, tuple[Callable, tuple]] = {
    **{
        f"encoder-torchvision-{name}": (partial(torchvision_case, name, *RESNET), SIZES)
        for name in RESNETS
    },
    "encoder-torchvision-mobilenet_v2": (
        partial(torchvision_case, "mobilenet_v2", *MOBILENET),
        SIZES,
    ),
    **{
        f"encoder-timm-{name}": (partial(timm_case, name, *CONVNEXT), SIZES)
        for name in ("convnext_tiny", "convnext_small")
    },
    **{
        f"encoder-timm-{name}": (partial(timm_case, name, *MBCONV), SIZES)
        for name in ("tf_efficientnet_b0", "tf_efficientnet_b2", "efficientnet_b0")
    },
    **{
        f"encoder-timm-tf_efficientnet_lite{n}": (
            partial(timm_case, f"tf_efficientnet_lite{n}", *MBCONV),
            SIZES,
        )
        for n in range(5)
    },
    **{f"encoder-smp-{name}": (partial(smp_encoder, name), SIZES) for name in SMP_ENCODERS},
    "encoder-transformers-mit_b0": (segformer_classifier, SIZES),
    "encoder-transformers-mit_b1": (
        partial(segformer_classifier, hidden_sizes=[64, 128, 320, 512]),
        SIZES,
    ),
}

# Whole networks


def smp_network(architecture: str, encoder: str, options: dict):
    network = getattr(smp, architecture)(encoder, encoder_weights=None, **options)
    with tempfile.TemporaryDirectory() as folder:
        network.save_pretrained(folder)
        config = json.loads((pathlib.Path(folder) / "config.json").read_text())

    def forward(x):
        output = network(x)
        return [output[0] if isinstance(output, tuple) else output]

    return network, forward, config


def smp_case(architecture: str, encoder: str, sizes=None, **options):
    if sizes is None:
        sizes = {
            "Unet": SIZES,
            "PSPNet": ((64, 96), (72, 104)),
            "DeepLabV3": ((64, 96), (72, 104)),
            "DeepLabV3Plus": ((64, 96), (80, 112)),
            "PAN": ((128, 160), (144, 128)),
        }.get(architecture, DIVISIBLE)
    return partial(smp_network, architecture, encoder, options), sizes


def segformer_network(**config):
    config = {"num_labels": 5, **config}
    network = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(**config))
    return network, lambda x: [_resized(network(x).logits, x)], json.loads(_config_text(network))


def upernet_network(depths, hidden_sizes, **config):
    backbone = transformers.ConvNextConfig(
        depths=depths, hidden_sizes=hidden_sizes, out_features=[f"stage{n}" for n in (1, 2, 3, 4)]
    )
    options = {"num_labels": 5, **config}
    network = transformers.UperNetForSemanticSegmentation(
        transformers.UperNetConfig(backbone_config=backbone, **options)
    )
    return network, lambda x: [network(x).logits], json.loads(_config_text(network))


def _config_text(network) -> str:
    with tempfile.TemporaryDirectory() as folder:
        network.config.architectures = [type(network).__name__]
        network.config.save_pretrained(folder)
        return (pathlib.Path(folder) / "config.json").read_text()


def _resized(logits, x):
    """Logits at the image's size, as Transformers' own post-processing resizes them."""
    return torch.nn.functional.interpolate(
        logits, size=x.shape[2:], mode="bilinear", align_corners=False
    )


ARCHITECTURES = (
    *("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "DeepLabV3"),
    *("DeepLabV3Plus", "PAN", "UPerNet", "Segformer"),
)
FAMILIES = (
    *("resnet50", "resnext50_32x4d", "se_resnet50", "se_resnext50_32x4d", "mobilenet_v2"),
    *("efficientnet-b0", "efficientnet-b2", "timm-efficientnet-b0"),
)
CASES |= {f"smp-{a}-resnet34": smp_case(a, "resnet34") for a in ARCHITECTURES}
CASES |= {f"smp-{a}-{e}": smp_case(a, e) for e in FAMILIES for a in ("Unet", "DeepLabV3Plus")}
CASES |= {
    f"smp-{a}-{e}": smp_case(a, e) for e in ("mit_b0", "tu-convnext_tiny") for a in ("Unet", "FPN")
}
CASES["smp-Segformer-mit_b0"] = smp_case("Segformer", "mit_b0", classes=4)

# One option after the other, on ResNet18: architecture, what the option is, the option.
OPTIONS: list[tuple[str, str, dict]] = [
    ("Unet", "depth4", {"encoder_depth": 4, "decoder_channels": (64, 32, 16, 16)}),
    ("Unet", "depth3", {"encoder_depth": 3, "decoder_channels": (32, 16, 8)}),
    ("Unet", "scse", {"decoder_attention_type": "scse", "decoder_channels": (64, 64, 32, 32, 16)}),
    ("Unet", "gray", {"in_channels": 1}),
    ("Unet", "5channels", {"in_channels": 5, "classes": 3}),
    ("Unet", "bilinear", {"decoder_interpolation": "bilinear"}),
    ("Unet", "identity", {"decoder_use_norm": False}),
    ("Unet", "instance", {"decoder_use_norm": {"type": "instancenorm", "affine": True}}),
    ("Unet", "epsilon", {"decoder_use_norm": {"type": "batchnorm", "eps": 1e-2}}),
    ("Unet", "sigmoid", {"activation": "sigmoid", "classes": 3}),
    ("Unet", "softmax", {"activation": "softmax2d", "classes": 3}),
    ("Unet", "aux", {"aux_params": {"classes": 2, "dropout": 0.1}}),
    ("UnetPlusPlus", "depth3", {"encoder_depth": 3, "decoder_channels": (32, 16, 8)}),
    ("UnetPlusPlus", "scse", {"decoder_attention_type": "scse"}),
    ("UnetPlusPlus", "bilinear", {"decoder_interpolation": "bilinear"}),
    ("MAnet", "depth4", {"encoder_depth": 4, "decoder_channels": (64, 32, 16, 16)}),
    ("MAnet", "pab", {"decoder_pab_channels": 16, "decoder_use_norm": "identity"}),
    ("MAnet", "bilinear", {"decoder_interpolation": "bilinear"}),
    ("Linknet", "depth4", {"encoder_depth": 4}),
    ("Linknet", "identity", {"decoder_use_norm": "identity", "classes": 2}),
    ("FPN", "concat", {"decoder_merge_policy": "cat"}),
    ("FPN", "widths", {"decoder_pyramid_channels": 64, "decoder_segmentation_channels": 32}),
    ("FPN", "depth4", {"encoder_depth": 4, "upsampling": 2}),
    ("FPN", "bilinear", {"decoder_interpolation": "bilinear"}),
    ("PSPNet", "depth4", {"encoder_depth": 4, "upsampling": 16, "sizes": DIVISIBLE}),
    ("PSPNet", "depth5", {"encoder_depth": 5, "upsampling": 32, "sizes": DIVISIBLE}),
    ("PSPNet", "widths", {"psp_out_channels": 64, "classes": 2}),
    ("PSPNet", "identity", {"decoder_use_norm": "identity"}),
    ("DeepLabV3", "rates", {"decoder_atrous_rates": (6, 12, 18), "decoder_channels": 64}),
    ("DeepLabV3", "stride16", {"encoder_output_stride": 16, "sizes": DIVISIBLE}),
    ("DeepLabV3", "separable", {"decoder_aspp_separable": True, "decoder_channels": 64}),
    ("DeepLabV3", "depth4", {"encoder_depth": 4, "decoder_channels": 64}),
    ("DeepLabV3", "depth3", {"encoder_depth": 3, "decoder_channels": 64}),
    ("DeepLabV3Plus", "stride8", {"encoder_output_stride": 8}),
    ("DeepLabV3Plus", "plain", {"decoder_aspp_separable": False, "decoder_channels": 64}),
    ("DeepLabV3Plus", "depth4", {"encoder_depth": 4, "decoder_channels": 64}),
    ("DeepLabV3Plus", "depth3", {"encoder_depth": 3, "decoder_channels": 64}),
    ("PAN", "stride32", {"encoder_output_stride": 32, "sizes": ((256, 288),)}),
    ("PAN", "depth4", {"encoder_depth": 4, "decoder_channels": 16}),
    ("PAN", "depth3", {"encoder_depth": 3}),
    ("PAN", "nearest", {"decoder_interpolation": "nearest"}),
    ("UPerNet", "depth4", {"encoder_depth": 4, "decoder_channels": 64}),
    ("UPerNet", "identity", {"decoder_use_norm": "identity", "decoder_channels": 64}),
    ("Segformer", "depth4", {"encoder_depth": 4, "decoder_segmentation_channels": 64}),
    ("Segformer", "depth3", {"encoder_depth": 3, "upsampling": 4}),
]
CASES |= {f"smp-{a}-option-{what}": smp_case(a, "resnet18", **o) for a, what, o in OPTIONS}
CASES |= {
    "transformers-segformer-b0": (segformer_network, SIZES),
    "transformers-segformer-2labels": (partial(segformer_network, num_labels=2), SIZES),
    "transformers-upernet-tiny": (
        partial(upernet_network, [3, 3, 9, 3], [96, 192, 384, 768], hidden_size=512),
        SIZES,
    ),
    "transformers-upernet-small": (
        partial(upernet_network, [3, 3, 27, 3], [96, 192, 384, 768], hidden_size=64, num_labels=3),
        SIZES,
    ),
}

if __name__ == "__main__":
    main(sys.argv[1:])
