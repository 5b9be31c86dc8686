"""Every architecture in 16 bit and under XLA; .ci/matrix does the same on EfficientNet."""

import pytest

from tests.cases import TINY
from tests.platform import precision


@pytest.mark.parametrize("name", TINY)
def test_a_training_step_in_float16_is_finite_and_its_scores_are_float32(name, tmp_path):
    precision.mixed_float16(TINY[name], tmp_path)


def test_a_training_step_in_bfloat16_is_finite_and_its_scores_are_float32(tmp_path):
    precision.mixed_bfloat16(TINY["DeepLabV3Plus"], tmp_path)


def test_the_gradient_of_a_16_bit_resize_compiles_with_xla():
    precision.train_step(TINY["DeepLabV3Plus"], "mixed_bfloat16", jit_compile=True)
