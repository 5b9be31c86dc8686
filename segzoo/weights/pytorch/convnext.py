"""ConvNeXt in timm's, segmentation_models_pytorch's and Transformers' names.

    Keras, without the network's name      timm                       Transformers
    stem_conv, stem_layernorm              stem.0, stem.1             embeddings.patch_embeddings, …
    downsampling_layernorm_0               stages.1.downsample.0      encoder.stages.1.downsampling_layer.0
    stage_0_block_1_depthwise_conv         stages.0.blocks.1.conv_dw  encoder.stages.0.layers.1.dwconv
    stage_0_block_1_layer_scale            stages.0.blocks.1.gamma    ….layer_scale_parameter

segmentation_models_pytorch reads timm's networks as features, which writes `stages_0`, `stem_0`.
"""  # noqa: E501

from segzoo.weights.pytorch._layouts import Layout, by_rules

_NAME = r"(?:.*/)?convnext_\w+?_"
_LAST = r"layer_normalization(_\d+)?|top_layernorm"  # has no name of its own in Keras
_BLOCK = _NAME + r"stage_(\d)_block_(\d+)_"
_TIMM = {
    "depthwise_conv": "conv_dw",
    "layernorm": "norm",
    "pointwise_conv_1": "mlp.fc1",
    "pointwise_conv_2": "mlp.fc2",
    "layer_scale": "gamma",
}
_TRANSFORMERS = {
    "depthwise_conv": "dwconv",
    "layernorm": "layernorm",
    "pointwise_conv_1": "pwconv1",
    "pointwise_conv_2": "pwconv2",
    "layer_scale": "layer_scale_parameter",
}
_PLACES = {"layernorm": "0", "conv": "1"}  # of a downsampling


def _timm(dot: str, last: str):
    return by_rules(
        (_LAST, last),
        (_NAME + "stem_conv", f"stem{dot}0"),
        (_NAME + "stem_layernorm", f"stem{dot}1"),
        (
            _NAME + r"downsampling_(layernorm|conv)_(\d)",
            lambda m: f"stages{dot}{int(m[2]) + 1}.downsample.{_PLACES[m[1]]}",
        ),
        (_BLOCK + r"(\w+)", lambda m: f"stages{dot}{m[1]}.blocks.{m[2]}.{_TIMM[m[3]]}"),
    )


TIMM = Layout(
    name="timm-convnext",
    title="timm's ConvNeXt",
    marks=("stem.0.weight", "stages.0.blocks.0.conv_dw.weight"),
    modules=_timm(".", "head.norm"),
    unused=r"head\..*",
)
FEATURES = Layout(
    name="timm-convnext-features",
    title="timm's ConvNeXt, saved by segmentation_models_pytorch",
    marks=("stem_0.weight", "stages_0.blocks.0.conv_dw.weight"),
    modules=_timm("_", "head.norm"),
    unused=r"head\..*",
)
TRANSFORMERS = Layout(
    name="transformers-convnext",
    title="Transformers' ConvNeXt",
    marks=(
        "embeddings.patch_embeddings.weight",
        "encoder.stages.0.layers.0.dwconv.weight",
    ),
    modules=by_rules(
        (_LAST, "layernorm"),
        (_NAME + "stem_conv", "embeddings.patch_embeddings"),
        (_NAME + "stem_layernorm", "embeddings.layernorm"),
        (
            _NAME + r"downsampling_(layernorm|conv)_(\d)",
            lambda m: f"encoder.stages.{int(m[2]) + 1}.downsampling_layer.{_PLACES[m[1]]}",
        ),
        (_BLOCK + r"(\w+)", lambda m: f"encoder.stages.{m[1]}.layers.{m[2]}.{_TRANSFORMERS[m[3]]}"),
    ),
    unused=r"(layernorm|hidden_states_norms\.\w+)\.(weight|bias)",
)
