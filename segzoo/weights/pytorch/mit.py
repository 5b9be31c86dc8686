"""Mix Transformers, in the names of segmentation_models_pytorch, which are NVIDIA's, and in
Transformers'.

    Keras, of stage 2, block 1        SMP                      Transformers
    stage_2_embedding/conv            patch_embed2.proj        patch_embeddings.1.proj
    stage_2_block_1_attention_norm    block2.0.norm1           block.1.0.layer_norm_1
    …_attention/query, key, value     block2.0.attn.q, kv      block.1.0.attention.self.query, …
    …_attention/reduce, norm          block2.0.attn.sr, norm   block.1.0.attention.self.sr, layer_norm
    …_attention/project               block2.0.attn.proj       block.1.0.attention.output.dense
    …_feed_forward/expand             block2.0.mlp.fc1         block.1.0.mlp.dense1
    stage_2_norm                      norm2                    layer_norm.1
"""  # noqa: E501

import re

from segzoo.weights.pytorch._layouts import Layout, Part, by_rules

_BLOCK = r"stage_(\d)_block_(\d+)_([\w/]+)"
_SMP = {
    "attention_norm": "norm1",
    "attention/query": "attn.q",
    "attention/reduce": "attn.sr",
    "attention/norm": "attn.norm",
    "attention/project": "attn.proj",
    "feed_forward_norm": "norm2",
    "feed_forward/expand": "mlp.fc1",
    "feed_forward/mix": "mlp.dwconv.dwconv",
    "feed_forward/shrink": "mlp.fc2",
}
_TRANSFORMERS = {
    "attention_norm": "layer_norm_1",
    "attention/query": "attention.self.query",
    "attention/key": "attention.self.key",
    "attention/value": "attention.self.value",
    "attention/reduce": "attention.self.sr",
    "attention/norm": "attention.self.layer_norm",
    "attention/project": "attention.output.dense",
    "feed_forward_norm": "layer_norm_2",
    "feed_forward/expand": "mlp.dense1",
    "feed_forward/mix": "mlp.dwconv.dwconv",
    "feed_forward/shrink": "mlp.dense2",
}


def _smp_block(match: re.Match) -> str | Part:
    block = f"block{match[1]}.{int(match[2]) - 1}"
    if match[3] in ("attention/key", "attention/value"):  # one layer, keys first
        return Part(f"{block}.attn.kv", int(match[3] == "attention/value"), 2)
    return f"{block}.{_SMP[match[3]]}"


def _block(match: re.Match) -> str:
    return f"block.{int(match[1]) - 1}.{int(match[2]) - 1}.{_TRANSFORMERS[match[3]]}"


SMP = Layout(
    name="smp-mit",
    title="MiT in the names of segmentation_models_pytorch",
    marks=("patch_embed1.proj.weight", "block1.0.attn.q.weight"),
    modules=by_rules(
        (r"stage_(\d)_embedding/conv", r"patch_embed\1.proj"),
        (r"stage_(\d)_embedding/norm", r"patch_embed\1.norm"),
        (r"stage_(\d)_norm", r"norm\1"),
        (_BLOCK, _smp_block),
    ),
    unused=r"head\..*",
)
TRANSFORMERS = Layout(
    name="transformers-mit",
    title="MiT in Transformers' names",
    marks=("patch_embeddings.0.proj.weight", "block.0.0.attention.self.query.weight"),
    modules=by_rules(
        (
            r"stage_(\d)_embedding/(conv|norm)",
            lambda m: (
                f"patch_embeddings.{int(m[1]) - 1}." + ("proj" if m[2] == "conv" else "layer_norm")
            ),
        ),
        (r"stage_(\d)_norm", lambda m: f"layer_norm.{int(m[1]) - 1}"),
        (_BLOCK, _block),
    ),
)
