"""torch's zip files read without torch: by hand-made files everywhere, and by torch's own where it is installed."""

import hypothesis
import hypothesis.strategies as st
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
def test_torch_files_from_before_2020_are_refused_with_the_way_to_convert_them(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"w": torch.zeros(3)}, tmp_path / "x.th", _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match=r"x\.th is torch's format from before 2020, .* torch\.save\(torch\.load\('x\.th', weights_only=True"):
        open_weights(str(tmp_path / "x.th"))


def test_the_real_s3rec_file_is_of_the_old_format_and_refused(shared_data):
    with pytest.raises(WeightsError, match="torch's format from before 2020"):
        open_weights(str(shared_data / "weights" / "s3rec_beauty"))
