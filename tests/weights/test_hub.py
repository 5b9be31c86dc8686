"""Keras's own way to the Hugging Face Hub and back, with the package replaced by two folders."""

import shutil
import sys
import types

import keras
import numpy as np

import segzoo


def test_a_model_that_was_uploaded_comes_back(tmp_path, monkeypatch):
    class Api:
        def __init__(self, **library):
            assert library["library_name"] == "keras"

        def create_repo(self, path, exist_ok):
            return types.SimpleNamespace(repo_id=path)

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, tmp_path / repo_id)

    hub = types.SimpleNamespace(
        HfApi=Api, snapshot_download=lambda repo_id, **options: str(tmp_path / repo_id)
    )
    monkeypatch.setattr(sys.modules["keras.src.saving.saving_lib"], "huggingface_hub", hub)
    model = segzoo.models.UNet(None, 2, (32, 48, 3), decoder_filters=(8, 4), name="roads")
    model.save("hf://me/roads")
    assert (tmp_path / "me/roads/README.md").is_file()
    image = np.random.default_rng(0).random((1, 32, 48, 3), "float32")
    again = keras.saving.load_model("hf://me/roads")
    np.testing.assert_array_equal(again(image), model(image))
