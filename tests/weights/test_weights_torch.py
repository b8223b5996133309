"""torch's zip files read without torch: by hand-made files everywhere, and by torch's own where it is installed."""

import hypothesis
import hypothesis.strategies as st
import jax
import ml_dtypes
import numpy as np
import pytest
from weights_files import program, same, table, tensor, write_torch, write_zip

from ftjax.errors import WeightsError
from ftjax.weights import open_weights

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "model_state_dict"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_torch_zip_is_read_without_torch(wrapper, prefix, tmp_path):
    state = {"a": RNG.normal(size=(2, 3)).astype(np.float32), "b.c": np.arange(4), "h": np.arange(3).astype(ml_dtypes.bfloat16), "n": np.array(7)}
    write_torch(tmp_path / "x.pth", {prefix + name: array for name, array in state.items()}, wrapper)
    source = open_weights(str(tmp_path / "x.pth"))
    same(source.tensors, state)
    assert source.metadata == ({"unwrapped": wrapper, "left out": "epoch"} if wrapper else {})


AXES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 5)), max_size=4)


@hypothesis.settings(max_examples=80, deadline=None)
@hypothesis.given(AXES, st.integers(0, 5), st.integers(1, 60))
def test_a_strided_view_is_read_exactly_where_it_fits_and_refused_elsewhere(tmp_path_factory, axes, offset, count):
    shape, strides = tuple(length for length, _ in axes), tuple(stride for _, stride in axes)
    numbers = np.arange(count, dtype=np.float32)
    value = program(table({"w": tensor("FloatStorage", "0", count, offset, shape, strides)}))
    path = write_zip(tmp_path_factory.mktemp("view") / "x.pth", {"a/data.pkl": value, "a/data/0": numbers.tobytes()})
    places = [offset + int(np.dot(index, strides)) for index in np.ndindex(*shape)]
    if places and (max(places) >= count or len(places) > count):
        with pytest.raises(WeightsError, match="does not fit its storage"):
            open_weights(str(path))
    else:
        np.testing.assert_array_equal(open_weights(str(path)).tensors["w"], numbers[places].reshape(shape))


@pytest.mark.parity
def test_torch_save_is_read_bit_for_bit(tmp_path):
    torch = pytest.importorskip("torch")
    base = torch.randn(6, 4)
    state = {
        "plain": base,
        "transposed": base.t(),
        "part": base[2:, ::2],
        "parameter": torch.nn.Parameter(torch.randn(3)),
        "half": torch.randn(5).half(),
        "count": torch.tensor(3),
        "empty": torch.zeros(0, 3),
        "double": torch.randn(2, 2).double(),
    }
    for protocol in (2, 4):
        torch.save({"state_dict": state, "epoch": 3, "best": 0.5, "names": ["a", "b"]}, tmp_path / "x.th", pickle_protocol=protocol)
        same(open_weights(str(tmp_path / "x.th")).tensors, {name: value.detach().numpy() for name, value in state.items()})


@pytest.mark.parity
def test_a_module_state_dict_of_torch_is_read_and_a_whole_module_refused(tmp_path):
    torch = pytest.importorskip("torch")
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4)).to(torch.bfloat16)
    torch.save(module.state_dict(), tmp_path / "x.pth")
    source = open_weights(str(tmp_path / "x.pth"))
    assert source.tensors.dtype("0.weight") == ml_dtypes.bfloat16
    np.testing.assert_array_equal(source.tensors["0.weight"].astype(np.float32), module[0].weight.detach().float().numpy())
    torch.save(module, tmp_path / "y.pth")
    with pytest.raises(WeightsError, match=r"asks for 'torch\.nn\.modules\.container\.Sequential', which is not allowed; ftjax reads only plain dicts"):
        open_weights(str(tmp_path / "y.pth"))


@pytest.mark.parity
def test_a_torch_file_from_before_2020_is_read_without_running_it(tmp_path):
    torch = pytest.importorskip("torch")
    state = {"w": torch.arange(12.0).reshape(3, 4).T, "half": torch.ones(2, dtype=torch.bfloat16), "count": torch.tensor(7)}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "x.th", _use_new_zipfile_serialization=False)
    source = open_weights(str(tmp_path / "x.th"))
    assert source.format == "torch legacy"
    assert source.metadata == {"unwrapped": "state_dict", "left out": "epoch"}
    half = np.ones(2, np.float32).astype(jax.numpy.bfloat16)
    same(source.tensors, {name: half if name == "half" else value.numpy() for name, value in state.items()})


def old_file(path, count=3, value=None, tail=b""):
    """A file of the old format, written by hand: {"w": [1, 2, 3]}, protocol 2."""

    def text(value):
        return b"X" + len(value).to_bytes(4, "little") + value.encode()

    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + b"K\x03Nt" + b"Q"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00K\x03\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
    state = b"\x80\x02}" + text("w") + (tensor if value is None else value) + b"s."
    machine = b"\x80\x02}" + text("little_endian") + b"\x88s."
    keys = b"\x80\x02](" + text("0") + b"e."
    numbers = count.to_bytes(8, "little") + np.array([1, 2, 3], "<f4").tobytes()
    path.write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + machine + state + keys + numbers + tail)
    return str(path)


def test_the_old_format_is_read_and_what_does_not_add_up_is_refused(tmp_path):
    np.testing.assert_array_equal(open_weights(old_file(tmp_path / "x.pt")).tensors["w"], [1, 2, 3])
    with pytest.raises(WeightsError, match=r"storage '0' should have 3 numbers and says 4; the file is damaged"):
        open_weights(old_file(tmp_path / "count.pt", count=4))
    with pytest.raises(WeightsError, match=r"its contents need \d+; it is truncated or damaged"):
        open_weights(old_file(tmp_path / "tail.pt", tail=b"x"))
    whole = (tmp_path / "x.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[:-1])
    with pytest.raises(WeightsError, match="truncated or damaged"):
        open_weights(str(tmp_path / "cut.pt"))
    (tmp_path / "short.pt").write_bytes(whole[:40])
    with pytest.raises(WeightsError, match="whose contents cannot be read"):
        open_weights(str(tmp_path / "short.pt"))
    with pytest.raises(WeightsError, match=r"asks for 'os\.system', which is not allowed"):
        open_weights(old_file(tmp_path / "code.pt", value=b"cos\nsystem\n(X\x02\x00\x00\x00lstR"))


def test_the_real_s3rec_file_is_of_the_old_format_and_read(shared_data):
    source = open_weights(str(shared_data / "weights" / "s3rec_beauty"))
    assert source.format == "torch legacy"
    assert source.tensors.shape("item_embeddings.weight") == (12103, 64)
    assert all(np.isfinite(array).all() for array in source.tensors.values())
