"""Published files: downloaded beside their place, checked, kept by repository and name."""

import http.server
import os
import pathlib
import threading

import h5py
import keras
import pytest

import segzoo
from segzoo.weights import cached_error, fetch, load_weights, published
from segzoo.weights._cache import home
from segzoo.weights._download import cached_path
from tests.weights import hostile


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    (tmp_path / "keras").mkdir()
    return tmp_path / "keras" / "models"


@pytest.fixture
def weights(tmp_path):
    return hostile.write(hostile.network(), tmp_path / "a.weights.h5", "weights.h5").read_bytes()


@pytest.fixture
def server():
    """A server that gives `server.replies` by path: the body, and the length that it announces."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            body, length, wait = self.server.replies[self.path]
            self.send_response(200)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body[: len(body) // 2])
            self.wfile.flush()
            wait()
            self.wfile.write(body[len(body) // 2 :])

        def log_message(self, *args):
            pass

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.replies, made.asked = {}, []
    made.url = f"http://127.0.0.1:{made.server_port}"
    made.give = lambda path, body, length=None, wait=lambda: None: made.replies.update(
        {path: (body, len(body) if length is None else length, wait)}
    )
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def files(cache):
    return sorted(p.name for p in cache.rglob("*") if p.is_file())


def test_a_file_is_downloaded_once_and_kept_by_repository(server, weights, cache):
    server.give("/net.h5", weights)
    path = fetch(f"{server.url}/net.h5", "weights")
    assert pathlib.Path(path) == cached_path(f"{server.url}/net.h5")
    assert pathlib.Path(path).read_bytes() == weights and files(cache) == ["net.h5"]
    assert fetch(f"{server.url}/net.h5", "weights") == path
    assert server.asked == ["/net.h5"]


def test_two_repositories_have_files_of_one_name(cache):
    hub = "https://huggingface.co/{}/resolve/main/model.safetensors"
    paths = [cached_path(hub.format(name)) for name in ("org/a", "org/b", "other/a")]
    assert len(set(paths)) == 3 and all(cache in path.parents for path in paths)
    assert cached_path("https://github.com/x/y/releases/download/1.0/f.h5") == cache / "x/y/f.h5"
    assert cache in cached_path("https://github.com/../../%2e%2e/f.h5").resolve().parents


def test_a_half_download_never_has_the_name_of_the_file(server, weights, cache):
    seen = []
    server.give(
        "/net.h5",
        weights,
        wait=lambda: seen.append(cached_path(f"{server.url}/net.h5").exists()),
    )
    fetch(f"{server.url}/net.h5", "weights")
    assert seen == [False] and files(cache) == ["net.h5"]


@pytest.mark.parametrize(
    "change, pattern",
    [
        (lambda body: (b"<html>Sign in to the network</html>", None), "not a weights file.*<html>"),
        (lambda body: (body[:700], None), "truncated or damaged"),
        (lambda body: (body[:700], len(body)), r"cut|IncompleteRead"),
        (lambda body: (b"", None), "not a weights file.*0 bytes"),
    ],
)
def test_what_is_not_the_file_is_not_kept(server, weights, cache, change, pattern):
    server.give("/net.h5", *change(weights))
    with pytest.raises(ValueError, match=pattern) as caught:
        fetch(f"{server.url}/net.h5", "backbone_weights")
    assert f"{server.url}/net.h5 could not be downloaded" in str(caught.value)
    assert "`backbone_weights=None`" in str(caught.value) and str(cache) in str(caught.value)
    assert files(cache) == []
    server.give("/net.h5", weights)
    fetch(f"{server.url}/net.h5", "backbone_weights")


def test_another_hash_is_refused(server, weights, cache):
    server.give("/net.h5", weights)
    with pytest.raises(ValueError, match=r"SHA-256 is .*, expected 00ff"):
        fetch(f"{server.url}/net.h5", "weights", sha256="00ff")
    assert files(cache) == []


@pytest.mark.parametrize("content", [b"", b"<html>", None], ids=["empty", "a page", "truncated"])
def test_a_damaged_file_in_the_cache_is_named_with_what_to_do(weights, content):
    path = cached_path("https://github.com/org/net/f.h5")
    path.parent.mkdir(parents=True)
    path.write_bytes(weights[:700] if content is None else content)
    assert fetch("https://github.com/org/net/f.h5", "weights") == str(path)
    with pytest.raises(ValueError, match=f"{path} is .*delete {path}"):
        load_weights(hostile.network(), path)


def test_another_networks_file_in_the_cache_is_named_with_what_to_do(weights):
    path = cached_path("https://github.com/org/net/f.h5")
    path.parent.mkdir(parents=True)
    path.write_bytes(weights)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="score")])
    with pytest.raises(ValueError, match=f"does not fit.*`score`.*delete {path}"):
        load_weights(model, path)


def test_a_cached_file_that_keras_fails_on_is_named(cache):
    def keras_does(weights_path):
        h5py.File(weights_path)

    cache.mkdir()
    path = cache / "resnet50_weights.h5"
    path.write_bytes(b"<html>")
    with pytest.raises(OSError) as caught:
        keras_does(str(path))
    error = cached_error("backbone_weights", caught.value)
    assert isinstance(error, ValueError)
    assert f"`backbone_weights`: the cached file {path}" in str(error)
    with pytest.raises(OSError) as caught:
        keras_does(str(cache.parent.parent / "nowhere.h5"))
    assert cached_error("backbone_weights", caught.value) is None


def test_a_damaged_download_of_keras_is_named_with_what_to_do(cache, monkeypatch):
    """Keras does not check the hash of every file."""
    cache.mkdir()
    path = cache / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5"
    path.write_bytes(b"<html>")
    monkeypatch.setattr(
        keras.src.applications.mobilenet_v2.file_utils, "get_file", lambda *a, **k: str(path)
    )
    with pytest.raises(ValueError, match=f"`backbone_weights`: the cached file {path} is damaged"):
        segzoo.backbones.build("mobilenetv2")


def test_where_the_home_cannot_be_written_the_folder_is_the_one_that_keras_uses(monkeypatch):
    monkeypatch.delenv("KERAS_HOME")
    access = os.access
    user = pathlib.Path("~").expanduser()
    monkeypatch.setattr(
        os,
        "access",
        lambda path, mode: (
            user not in [pathlib.Path(path), *pathlib.Path(path).parents] and access(path, mode)
        ),
    )
    assert home() == pathlib.Path("/tmp/.keras")
    with pytest.raises(ValueError, match=r"into /tmp/.keras/models/nowhere.invalid by hand"):
        fetch("http://nowhere.invalid/net.h5", "weights")


def test_every_published_checkpoint_has_a_place_of_its_own_and_a_known_layout():
    rows = published.CHECKPOINTS
    assert len({(row.name, row.builder, row.backbone) for row in rows}) == len(rows)
    assert len({cached_path(row.url) for row in rows}) == len({row.url for row in rows})
    for row in rows:
        assert row.network in published.LAYOUTS
        assert published.find(row.builder, row.backbone, row.name).checkpoint is row
        with pytest.raises(ValueError, match=f"published for the backbones .*{row.backbone}"):
            published.find(row.builder, "vgg19", row.name)


def test_a_layout_is_told_by_all_of_its_layers():
    for network, (every, some) in published.LAYOUTS.items():
        assert published.layout_of([*every, *some]) == network
        assert published.layout_of([*list(every)[1:], *some]) == published.layout_of(every) == ""
