"""Every architecture in 16 bit and under XLA; .ci/matrix does the same on EfficientNet."""

import pytest

from tests.cases import TINY, each
from tests.platform import precision

QUICK = {"UNet": TINY["UNet"]}


@pytest.mark.parametrize("case", each("mixed precision", QUICK, TINY))
def test_a_training_step_in_float16_is_finite_and_its_scores_are_float32(case, tmp_path):
    precision.mixed_float16(case, tmp_path)


@pytest.mark.slow
def test_a_training_step_in_bfloat16_is_finite_and_its_scores_are_float32(tmp_path):
    precision.mixed_bfloat16(TINY["DeepLabV3Plus"], tmp_path)


@pytest.mark.slow
def test_the_gradient_of_a_16_bit_resize_compiles_with_xla():
    precision.train_step(TINY["DeepLabV3Plus"], "mixed_bfloat16", jit_compile=True)
