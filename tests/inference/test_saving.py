"""The models of `segzoo.inference` open where `import segzoo` is all that was said."""

import pytest

from segzoo.inference import decide, in_float32
from segzoo.inference import test_time_augmentation as augment
from tests.inference.networks import image, network, reloads


@pytest.mark.slow
def test_every_result_saves_and_reloads_in_another_process(tmp_path):
    open_size, fixed = network(), network((21, 34, 3), classes=1, activation="sigmoid")
    models = [
        augment(open_size, transforms="d4", average="geometric", spread=True),
        augment(open_size, transforms=["rot90"], scales=(0.75, 1)),
        augment(fixed),
        decide(open_size, dtype="uint16"),
        decide(augment(fixed, average="geometric"), threshold=0.3),
        in_float32(augment(open_size)),
    ]
    reloads([(model, image(21, 34)) for model in models], tmp_path)
