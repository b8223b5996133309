"""Each format read back: the same names, the same bits, and a clear refusal of what is damaged."""

import json
import shutil
import warnings
from pathlib import Path

import flax.serialization
import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from orbax.checkpoint import v1 as ocp
from weights_files import same, write_torch

from ftjax.errors import WeightsError
from ftjax.weights import open_weights, save_safetensors
from ftjax.weights.opening import builtin_names

RNG = np.random.default_rng(0)
STATE = {
    "a": RNG.normal(size=(2, 3)).astype(np.float32),
    "b/c": np.arange(4, dtype=np.int64),
    "d": np.array(1.5, np.float16),
    "e": np.zeros((0, 2), np.float32),
}


def test_safetensors_of_the_library_are_read(tmp_path):
    safetensors.numpy.save_file(STATE, tmp_path / "x.safetensors", metadata={"k": "v"})
    source = open_weights(str(tmp_path / "x.safetensors"))
    same(source.tensors, STATE)
    assert (source.format, source.metadata, source.location) == ("safetensors", {"k": "v"}, str(tmp_path / "x.safetensors"))


def test_our_safetensors_are_read_by_the_library(tmp_path):
    save_safetensors(tmp_path / "x.safetensors", STATE, {"k": "v"})
    with safetensors.safe_open(tmp_path / "x.safetensors", "np") as file:
        assert file.metadata() == {"k": "v"}
        for name, array in STATE.items():
            np.testing.assert_array_equal(file.get_tensor(name), array)


ARRAYS = st.sampled_from(["f4", "f2", "f8", "i4", "u1", "?", ml_dtypes.bfloat16]).flatmap(
    lambda dtype: hypothesis.extra.numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4).flatmap(
        lambda shape: st.binary(min_size=np.dtype(dtype).itemsize * int(np.prod(shape)), max_size=np.dtype(dtype).itemsize * int(np.prod(shape))).map(
            lambda raw: (np.frombuffer(raw, "u1") & (1 if dtype == "?" else 255)).astype("u1").view(dtype).reshape(shape)
        )
    )
)


@hypothesis.settings(max_examples=60, deadline=None)
@hypothesis.given(
    st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=12).filter(lambda name: name != "__metadata__"), ARRAYS, min_size=1, max_size=4)
)
def test_what_is_saved_is_reloaded_bit_for_bit(tmp_path_factory, flat):
    path = tmp_path_factory.mktemp("saved") / "x.safetensors"
    save_safetensors(path, flat, {})
    same(open_weights(str(path)).tensors, flat)


def test_jax_arrays_and_strided_ones_are_saved(tmp_path):
    flat = {"b": jnp.arange(6, dtype=jnp.bfloat16).reshape(2, 3), "a": np.arange(12.0).reshape(3, 4).T[::2]}
    save_safetensors(tmp_path / "x.safetensors", flat, {})
    tensors = open_weights(str(tmp_path / "x.safetensors")).tensors
    same(tensors, {name: np.asarray(array) for name, array in flat.items()})
    assert list(tensors) == ["a", "b"]


def test_the_same_weights_give_the_same_bytes(tmp_path):
    save_safetensors(tmp_path / "x", STATE, {"b": "2", "a": "1"})
    save_safetensors(tmp_path / "y", dict(reversed(STATE.items())), {"a": "1", "b": "2"})
    assert (tmp_path / "x").read_bytes() == (tmp_path / "y").read_bytes()


def test_a_failed_save_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    save_safetensors(tmp_path / "x.safetensors", STATE, {})
    before = (tmp_path / "x.safetensors").read_bytes()
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        save_safetensors(tmp_path / "x.safetensors", {"a": np.ones(3)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]
    assert (tmp_path / "x.safetensors").read_bytes() == before


def test_what_safetensors_cannot_hold_is_refused(tmp_path):
    with pytest.raises(WeightsError, match=r"'w' of type complex64 cannot be saved as safetensors; allowed: float64"):
        save_safetensors(tmp_path / "x", {"w": np.zeros(1, np.complex64)}, {})
    with pytest.raises(WeightsError, match="metadata of safetensors are texts; 'k' is a int"):
        save_safetensors(tmp_path / "x", {}, {"k": 1})


@pytest.mark.parametrize("keep", [0, 5, 30, 0.5, -1])
def test_a_truncated_safetensors_file_is_refused_with_the_sizes(keep, tmp_path):
    save_safetensors(tmp_path / "x.safetensors", {"w": np.zeros(100, np.float32)}, {})
    raw = (tmp_path / "x.safetensors").read_bytes()
    part = raw[: int(len(raw) * keep) if isinstance(keep, float) else keep]
    (tmp_path / "x.safetensors").write_bytes(part)
    with pytest.raises(WeightsError, match=rf"x\.safetensors: truncated: .*found {len(part)}( bytes)?$") as refusal:
        open_weights(str(tmp_path / "x.safetensors"))
    if len(part) > 100:
        assert f"expected {len(raw)} bytes" in str(refusal.value)


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path):
    save_safetensors(tmp_path / "x.safetensors", {"w": np.zeros(100, np.float32)}, {})
    source = open_weights(str(tmp_path / "x.safetensors"))
    raw = (tmp_path / "x.safetensors").read_bytes()
    (tmp_path / "x.safetensors").write_bytes(raw[:-40])
    with pytest.raises(WeightsError, match="'w' ended after 90 of 100 numbers"):
        source.tensors["w"]


def test_tensors_are_read_only_when_asked_for(tmp_path):
    save_safetensors(tmp_path / "x.safetensors", {"w": np.zeros(3)}, {})
    source = open_weights(str(tmp_path / "x.safetensors"))
    (tmp_path / "x.safetensors").unlink()
    assert source.tensors.shape("w") == (3,)
    with pytest.raises(FileNotFoundError):
        source.tensors["w"]


def sharded(folder: Path) -> dict[str, str]:
    save_safetensors(folder / "model-1.safetensors", {"a": STATE["a"]}, {})
    save_safetensors(folder / "model-2.safetensors", {name: array for name, array in STATE.items() if name != "a"}, {})
    listed = {name: "model-1.safetensors" if name == "a" else "model-2.safetensors" for name in STATE}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed}))
    return listed


def test_a_sharded_directory_is_read_as_one(tmp_path):
    sharded(tmp_path)
    source = open_weights(str(tmp_path))
    same(source.tensors, STATE)
    assert len(source.sha256) == 64


def test_a_missing_or_contradicting_shard_is_refused(tmp_path):
    listed = sharded(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": listed | {"z": "model-2.safetensors"}}))
    with pytest.raises(WeightsError, match=r"model-2.safetensors: index and shard disagree about \['z'\]"):
        open_weights(str(tmp_path))
    (tmp_path / "model-1.safetensors").unlink()
    with pytest.raises(WeightsError, match=r"names the shard 'model-1\.safetensors', which is not in"):
        open_weights(str(tmp_path))


def test_an_index_without_a_map_is_refused(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text("{}")
    with pytest.raises(WeightsError, match="no weight_map from tensors to files"):
        open_weights(str(tmp_path))


TREE = {"params": {"Dense_0": {"kernel": STATE["a"], "bias": np.zeros(3, ml_dtypes.bfloat16)}}, "batch_stats": {"mean": np.ones(2, np.float64)}}
FLAT = {"params/Dense_0/kernel": STATE["a"], "params/Dense_0/bias": np.zeros(3, ml_dtypes.bfloat16), "batch_stats/mean": np.ones(2, np.float64)}


def test_flax_msgpack_is_read_with_flat_names(tmp_path):
    (tmp_path / "x.ckpt").write_bytes(flax.serialization.msgpack_serialize(TREE))
    source = open_weights(str(tmp_path / "x.ckpt"))
    same(source.tensors, FLAT)
    assert source.format == "flax msgpack"


@pytest.mark.parametrize("keep", [0.3, 0.9])
def test_a_truncated_flax_msgpack_file_is_refused(keep, tmp_path):
    raw = flax.serialization.msgpack_serialize(TREE)
    (tmp_path / "x.ckpt").write_bytes(raw[: int(len(raw) * keep)])
    with pytest.raises(WeightsError, match=r"x\.ckpt: not a readable Flax msgpack file .* it may be truncated"):
        open_weights(str(tmp_path / "x.ckpt"))


def test_flax_leaves_that_are_no_tensors_are_refused(tmp_path):
    (tmp_path / "x.msgpack").write_bytes(flax.serialization.msgpack_serialize({"a": {"b": "text"}}))
    with pytest.raises(WeightsError, match="'a/b' is a str, not a tensor"):
        open_weights(str(tmp_path / "x.msgpack"))
    (tmp_path / "x.msgpack").write_bytes(flax.serialization.msgpack_serialize({"a": {"b": np.zeros(1)}, "a/b": np.zeros(1)}))
    with pytest.raises(WeightsError, match="the name 'a/b' occurs twice"):
        open_weights(str(tmp_path / "x.msgpack"))


@pytest.mark.parametrize("writer", ["v1", "standard", "manager"])
def test_orbax_directories_are_read_with_flat_names(writer, tmp_path):
    import orbax.checkpoint as old

    tree = jax.tree.map(jnp.asarray, {"params": TREE["params"]})
    place = tmp_path / "checkpoint"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if writer == "v1":
            ocp.save(str(place), tree, custom_metadata={"format": "other", "step": 3})
        elif writer == "standard":
            with old.StandardCheckpointer() as checkpointer:
                checkpointer.save(place, tree)
        else:
            with old.CheckpointManager(place) as manager:
                manager.save(3, args=old.args.StandardSave(tree))
    if writer == "manager":
        with pytest.raises(WeightsError, match=r"a folder of Orbax checkpoints, name one of its steps: .*checkpoint/3"):
            open_weights(str(place))
        place = place / "3"
    source = open_weights(str(place))
    same(source.tensors, {name: array for name, array in FLAT.items() if name.startswith("params")})
    assert source.format == "orbax"
    assert source.metadata == ({"format": "other", "step": "3"} if writer == "v1" else {})


def test_the_tree_inside_an_orbax_step_is_read_too(tmp_path):
    ocp.save(str(tmp_path / "x"), {"w": jnp.ones(3)})
    inner = next(path.parent for path in (tmp_path / "x").rglob("_METADATA"))
    same(open_weights(str(inner)).tensors, {"w": np.ones(3, np.float32)})


def test_an_orbax_checkpoint_saved_over_eight_devices_is_read(tmp_path):
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    array = jax.device_put(jnp.arange(16.0), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data")))
    ocp.save(str(tmp_path / "x"), {"w": array})
    same(open_weights(str(tmp_path / "x")).tensors, {"w": np.arange(16, dtype=np.float32)})


def test_an_orbax_step_with_several_trees_is_refused(tmp_path):
    ocp.save(str(tmp_path / "x"), {"w": jnp.ones(3)})
    inner = next(path.parent for path in (tmp_path / "x").rglob("_METADATA"))
    shutil.copytree(inner, inner.parent / "other")
    with pytest.raises(WeightsError, match=r"a step of Orbax with one tree is needed, found other, \w+; name its folder"):
        open_weights(str(tmp_path / "x"))


def test_a_damaged_orbax_checkpoint_is_refused(tmp_path):
    ocp.save(str(tmp_path / "x"), {"w": jnp.arange(100.0)})
    for path in (tmp_path / "x").rglob("d/*"):
        path.unlink()
    with pytest.raises(WeightsError, match=r"x: not a readable Orbax checkpoint \("):
        open_weights(str(tmp_path / "x"))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_is_read_without_pickle(save, tmp_path):
    arrays = STATE | {"fortran": np.asfortranarray(STATE["a"])}
    save(tmp_path / "x.npz", **arrays)
    source = open_weights(str(tmp_path / "x.npz"))
    same(source.tensors, arrays)
    assert source.format == "npz"


def test_bfloat16_in_npz_gets_its_type_back_and_big_endian_is_turned(tmp_path):
    half = np.arange(5).astype(ml_dtypes.bfloat16)
    np.savez(tmp_path / "x.npz", half=half, big=np.arange(3, dtype=">f4"))
    same(open_weights(str(tmp_path / "x.npz")).tensors, {"half": half, "big": np.arange(3, dtype=np.float32)})


def test_a_damaged_npz_is_refused_by_its_checksum(tmp_path):
    np.savez(tmp_path / "x.npz", w=np.full(1000, 2.5))
    raw = bytearray((tmp_path / "x.npz").read_bytes())
    raw[raw.index(np.full(4, 2.5).tobytes()) + 80] ^= 1
    (tmp_path / "x.npz").write_bytes(raw)
    source = open_weights(str(tmp_path / "x.npz"))
    with pytest.raises(WeightsError, match=r"'w.npy' is damaged: Bad CRC-32"):
        source.tensors["w"]


@pytest.mark.parametrize("suffix", [".npz", ".pth"])
def test_a_truncated_zip_is_refused(suffix, tmp_path):
    path = tmp_path / f"x{suffix}"
    (np.savez if suffix == ".npz" else lambda path, w: write_torch(path, {"w": w}))(path, w=np.zeros(1000))
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(WeightsError, match=r"a zip archive that cannot be read .* found 4000 bytes"):
        open_weights(str(path))


def test_a_missing_path_is_refused_with_what_is_allowed(tmp_path):
    with pytest.raises(WeightsError, match=r"nowhere: no such file or directory; allowed: a file, a directory, hf://owner/name, "):
        open_weights(str(tmp_path / "nowhere"))


def test_unknown_bytes_are_refused_with_the_known_formats(tmp_path):
    for name, raw, message in (
        ("x.bin", b"hello world", r"not a known format \(first bytes b'hello wo'\); known formats: safetensors"),
        ("x.h5", b"\x89HDF\r\n\x1a\n", "an HDF5 file is not read as weights"),
        ("x.npy", b"\x93NUMPY\x01\x00", "a single NumPy array is not read as weights"),
        ("x.pth", b"hello", "not a zip archive, as .pth should be"),
        ("x.safetensors", b"version https://git-lfs.github.com/spec/v1\n", "is a git-lfs pointer"),
    ):
        (tmp_path / name).write_bytes(raw)
        with pytest.raises(WeightsError, match=message):
            open_weights(str(tmp_path / name))


@pytest.mark.parametrize("length", [0x80, 0x280, 0x4B50])
def test_a_safetensors_file_whose_length_looks_like_another_format_is_read(length, tmp_path):
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'.ljust(length)
    (tmp_path / "x").write_bytes(length.to_bytes(8, "little") + header + bytes(4))
    assert open_weights(str(tmp_path / "x")).format == "safetensors"


def test_a_file_without_tensors_is_refused(tmp_path):
    save_safetensors(tmp_path / "x.safetensors", {}, {})
    with pytest.raises(WeightsError, match="holds no tensors"):
        open_weights(str(tmp_path / "x.safetensors"))


def test_a_directory_with_one_file_of_weights_is_that_file_and_with_two_is_refused(tmp_path):
    write_torch(tmp_path / "a.pth", {"w": STATE["a"]})
    assert open_weights(str(tmp_path)).format == "torch zip"
    write_torch(tmp_path / "b.pth", {"w": STATE["a"]})
    with pytest.raises(WeightsError, match=r"several files of weights, name one of a\.pth, b\.pth"):
        open_weights(str(tmp_path))


def test_an_empty_directory_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(WeightsError, match=r"no weights among \['notes.txt'\]"):
        open_weights(str(tmp_path))


def test_a_run_of_ftjax_is_its_model(tmp_path):
    save_safetensors(tmp_path / "model" / "weights.safetensors", STATE, {})
    same(open_weights(str(tmp_path)).tensors, STATE)


def test_builtin_weights_are_found_in_the_package(tmp_path, monkeypatch):
    (tmp_path / "builtin").mkdir()
    save_safetensors(tmp_path / "builtin" / "digits.safetensors", STATE, {})
    monkeypatch.setattr("importlib.resources.files", lambda package: tmp_path)
    assert builtin_names() == ("digits",)
    assert open_weights("builtin:digits").location == "builtin:digits"
    with pytest.raises(WeightsError, match=r"builtin:digit: no such builtin weights; did you mean 'digits'\? allowed: 'digits'"):
        open_weights("builtin:digit")


def test_the_hub_offline_is_refused_with_what_was_tried_and_what_to_do(monkeypatch):
    import huggingface_hub

    def offline(*_, **options):
        raise huggingface_hub.errors.LocalEntryNotFoundError("Cannot reach the hub\nmore")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(WeightsError) as refusal:
        open_weights("hf://owner/name@v1")
    message = str(refusal.value)
    assert "hf://owner/name@v1: tried to fetch *.safetensors" in message
    assert "(LocalEntryNotFoundError: Cannot reach the hub)" in message
    assert "`hf download owner/name --local-dir DIR`" in message


def test_the_hub_gives_a_folder_and_never_pickles(monkeypatch, tmp_path):
    import huggingface_hub

    seen = {}

    def snapshot(repository, **options):
        seen.update(options, repository=repository)
        save_safetensors(tmp_path / "model.safetensors", STATE, {})
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    source = open_weights("hf://owner/name")
    same(source.tensors, STATE)
    assert source.location == "hf://owner/name"
    assert seen["repository"] == "owner/name"
    assert seen["revision"] is None
    assert not any(pattern.endswith((".bin", ".pt", ".pth")) for pattern in seen["allow_patterns"])


@pytest.mark.parametrize("name", ["owner", "a/b/c", "../x", "a/b@"])
def test_a_malformed_hub_name_is_refused(name):
    with pytest.raises(WeightsError, match="write hf://owner/name or hf://owner/name@revision"):
        open_weights(f"hf://{name}")


def test_the_fingerprint_is_of_the_bytes(tmp_path):
    import hashlib

    save_safetensors(tmp_path / "x.safetensors", STATE, {})
    raw = (tmp_path / "x.safetensors").read_bytes()
    assert open_weights(str(tmp_path / "x.safetensors")).sha256 == hashlib.sha256(raw).hexdigest()
