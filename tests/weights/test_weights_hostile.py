"""Files made to do harm: nothing runs, nothing hangs, nothing is written, and each is refused with a WeightsError."""

import json
import pickle
import struct
import time
import zipfile

import numpy as np
import pytest
from weights_files import ORDERED_DICT, integer, npy, program, safetensors_bytes, table, tensor, text, write_torch, write_zip

from ftjax.errors import WeightsError
from ftjax.weights import open_weights


class Bomb:
    """Unpickling this makes a file."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.marker}",)


def torch_file(path, value: bytes, data: dict[str, bytes] | None = None, **options):
    return write_zip(path, {"a/data.pkl": program(value), **{f"a/data/{key}": raw for key, raw in (data or {}).items()}}, **options)


FOUR = {"0": bytes(16)}


def doubled(levels: int) -> bytes:
    """A tuple whose hash or text takes 2 ** levels steps."""
    return text("x") + b"".join(b"q\x00h\x00\x86" for _ in range(levels))


PICKLES = {
    "os.system by REDUCE": (b"cos\nsystem\n" + text("touch X") + b"\x85R", "'os.system', which is not allowed"),
    "posix.system": (b"cposix\nsystem\n" + text("touch X") + b"\x85R", "'posix.system', which is not allowed"),
    "builtins.eval by GLOBAL": (b"cbuiltins\neval\n" + text("1") + b"\x85R", "'builtins.eval', which is not allowed"),
    "protocol 4 STACK_GLOBAL": (text("builtins") + text("exec") + b"\x93" + text("1") + b"\x85R", "'builtins.exec', which is not allowed"),
    "INST": (b"(" + text("1") + b"ibuiltins\neval\n", "opcode INST"),
    "OBJ": (b"(cbuiltins\neval\n" + text("1") + b"o", "'builtins.eval'"),
    "NEWOBJ": (b"ccollections\nOrderedDict\n)\x81", "opcode NEWOBJ"),
    "EXT1": (b"\x82\x01", "opcode EXT1"),
    "BUILD on a symbol": (b"ccollections\nOrderedDict\n}b", "gives a state to a Symbol"),
    "BUILD on a tensor": (tensor("FloatStorage", "0", 4, 0, (4,), (1,)) + b"}b", "gives a state to a View"),
    "REDUCE of a text": (text("os.system") + text("x") + b"\x85R", "calls a str, which is not allowed"),
    "REDUCE of a dtype": (b"ctorch\nfloat32\n)R", "calls torch.float32, which is not allowed"),
    "dotted name": (b"ctorch\n_utils._rebuild_tensor_v2\n)R", "'torch._utils._rebuild_tensor_v2', which is not allowed"),
    "numpy scalar": (b"cnumpy.core.multiarray\nscalar\n)R", "'numpy.core.multiarray.scalar', which is not allowed"),
    "tensor v3": (b"ctorch._utils\n_rebuild_tensor_v3\n)R", "'torch._utils._rebuild_tensor_v3', which is not allowed"),
    "huge size": (table({"w": tensor("FloatStorage", "0", 4, 0, (2**40,), (0,))}), "does not fit its storage of 4 numbers"),
    "huge product": (table({"w": tensor("FloatStorage", "0", 4, 0, (2**31 - 1,) * 31, (0,) * 31)}), "does not fit its storage of 4 numbers"),
    "past the end": (table({"w": tensor("FloatStorage", "0", 4, 1, (4,), (1,))}), "does not fit its storage of 4 numbers"),
    "stride too long": (table({"w": tensor("FloatStorage", "0", 4, 0, (2, 2), (3, 1))}), "does not fit its storage of 4 numbers"),
    "negative stride": (table({"w": tensor("FloatStorage", "0", 4, 3, (4,), (-1,))}), "not valid (negative"),
    "negative size": (table({"w": tensor("FloatStorage", "0", 4, 0, (-4,), (1,))}), "not valid (negative"),
    "negative offset": (table({"w": tensor("FloatStorage", "0", 4, -4, (4,), (1,))}), "not valid (negative"),
    "many axes": (table({"w": tensor("FloatStorage", "0", 4, 0, (1,) * 33, (1,) * 33)}), "too many axes"),
    "sizes without strides": (table({"w": tensor("FloatStorage", "0", 4, 0, (2, 2), (1,))}), "not valid (negative"),
    "storage too small": (table({"w": tensor("FloatStorage", "0", 400, 0, (400,), (1,))}), "needs 1600 bytes of 'a/data/0', found 16"),
    "storage missing": (table({"w": tensor("FloatStorage", "7", 4, 0, (4,), (1,))}), "lies in 'a/data/7', which the archive does not have"),
    "path in a key": (table({"w": tensor("FloatStorage", "../../etc/passwd", 4, 0, (4,), (1,))}), "which the archive does not have"),
    "unknown storage": (table({"w": tensor("float32", "0", 4, 0, (4,), (1,))}), "names a storage that is not valid: type 'float32'"),
    "name twice": (b"}(" + (text("w") + tensor("FloatStorage", "0", 4, 0, (4,), (1,))) * 2 + b"u", "the name 'w' occurs twice"),
    "hash of a tree of tuples": (b"}" + doubled(60) + text("x") + b"s", "a tuple as a name"),
    "call of a tree of tuples": (doubled(60) + b")R", "calls a tuple, which is not allowed"),
    "size of a tree of tuples": (b"ctorch._utils\n_rebuild_tensor_v2\n(" + (doubled(60)) + b"tR", "malformed"),
    "not a dict": (integer(3), "holds a int, not a dict of tensors"),
    "a whole model": (b"cmymodel\nNet\n)\x81", "'mymodel.Net', which is not allowed"),
    "values that are no tensors": (b"}" + text("w") + integer(3) + b"s", "'w' is a int, not a tensor"),
    "deep nesting": (b"]" * 100_000 + b"a" * 99_999, "holds a list, not a dict"),
    "empty stack": (b"R", "malformed (IndexError"),
    "no mark": (b"t", "malformed"),
    "unknown memo": (b"h\x07", "malformed (KeyError"),
    "endless": (b"", "malformed (IndexError"),
    "huge long": (b"\x8b" + struct.pack("<i", 2**31 - 1), "malformed"),
}


@pytest.mark.parametrize("case", PICKLES)
def test_hostile_corpus_of_torch_pickles_is_refused_and_runs_nothing(case, tmp_path, monkeypatch):
    value, message = PICKLES[case]
    monkeypatch.chdir(tmp_path)
    began = time.monotonic()
    with pytest.raises(WeightsError) as refusal:
        open_weights(str(torch_file(tmp_path / "x.pth", value, FOUR)))
    assert message in str(refusal.value)
    assert "x.pth" in str(refusal.value)
    assert [path.name for path in tmp_path.iterdir()] == ["x.pth"]
    assert time.monotonic() - began < 5


def test_hostile_corpus_of_torch_archives_is_refused(tmp_path):
    good = table({"w": tensor("FloatStorage", "0", 4, 0, (4,), (1,))})
    assert open_weights(str(torch_file(tmp_path / "good.pth", good, FOUR))).tensors["w"].shape == (4,)
    cases = {
        "compressed": ({"a/data.pkl": program(good), "a/data/0": bytes(16)}, "is compressed or encrypted"),
        "two tables": ({"a/data.pkl": program(good), "b/data.pkl": program(good)}, "has one data.pkl, found 2"),
        "nested table": ({"a/b/data.pkl": program(good)}, "has one data.pkl, found 0"),
        "traversal": ({"../../data.pkl": program(good)}, "has one data.pkl, found 0"),
        "big-endian": ({"a/data.pkl": program(good), "a/byteorder": b"big", "a/data/0": bytes(16)}, "big-endian"),
        "torchscript": ({"a/data.pkl": program(good), "a/code/m.py": b"", "a/data/0": bytes(16)}, "TorchScript"),
        "unknown zip": ({"readme.txt": b""}, "neither torch's (no data.pkl) nor NumPy's"),
        "long table": ({"a/data.pkl": b"\x80\x02" + b"N0" * (9 * 2**20)}, "the limit is 16777216"),
    }
    for case, (entries, message) in cases.items():
        path = write_zip(tmp_path / f"{case}.pth", entries, zipfile.ZIP_DEFLATED if case == "compressed" else zipfile.ZIP_STORED)
        with pytest.raises(WeightsError) as refusal:
            open_weights(str(path))
        assert message in str(refusal.value), case


def test_hostile_corpus_archive_with_an_entry_twice_is_refused(tmp_path):
    good = program(table({"w": tensor("FloatStorage", "0", 4, 0, (4,), (1,))}))
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("a/data.pkl", good)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a/data.pkl", good)
    with pytest.raises(WeightsError, match="an entry of the archive occurs twice"):
        open_weights(str(tmp_path / "x.pth"))


def test_hostile_corpus_a_flipped_bit_in_a_torch_storage_is_found_by_its_checksum(tmp_path):
    path = write_torch(tmp_path / "x.pth", {"w": np.full(1000, 1.5, np.float32)})
    raw = bytearray(path.read_bytes())
    raw[raw.index(np.full(8, 1.5, np.float32).tobytes()) + 5] ^= 1
    path.write_bytes(raw)
    source = open_weights(str(path))
    with pytest.raises(WeightsError, match="'archive/data/0' is damaged: Bad CRC-32"):
        source.tensors["w"]


@pytest.mark.parametrize("protocol", range(6))
def test_hostile_corpus_bare_pickles_are_refused_and_run_nothing(protocol, tmp_path):
    (tmp_path / "x.pth").write_bytes(pickle.dumps(Bomb(tmp_path / "owned"), protocol))
    with pytest.raises(WeightsError, match=r"a bare pickle, which can only be read by running it|not a zip archive"):
        open_weights(str(tmp_path / "x.pth"))
    assert not (tmp_path / "owned").exists()


ENTRY = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
HEADERS = {
    "not JSON": (b"{" + b"x" * 20, bytes(8), "the header is not JSON"),
    "not UTF-8": (b'{"\xff":1}', b"", "the header is not JSON"),
    "deep": (b'{"a":' + b"[" * 200_000, b"", "the header is not JSON"),
    "duplicated names": (f'{{"w":{ENTRY},"w":{ENTRY}}}'.encode(), bytes(8), "the name 'w' occurs twice"),
    "overlap": (f'{{"a":{ENTRY},"b":{ENTRY}}}'.encode(), bytes(8), "a hole or an overlap"),
    "hole": (b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}}', bytes(16), "a hole or an overlap"),
    "negative": (b'{"w":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}', bytes(8), "no valid shape"),
    "float shape": (b'{"w":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}}', bytes(8), "no valid shape"),
    "backwards": (b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}', bytes(8), "its data_offsets span -8"),
    "huge shape": (b'{"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}', bytes(8), "its data_offsets span 8"),
    "many axes": (b'{"w":{"dtype":"F32","shape":[' + b"1," * 40 + b'1],"data_offsets":[0,4]}}', bytes(4), "no valid shape"),
    "fp8": (b'{"w":{"dtype":"F8_E4M3","shape":[2],"data_offsets":[0,2]}}', bytes(2), "'F8_E4M3', which ftjax does not read; allowed: F64, F32"),
    "int4": (b'{"w":{"dtype":"I4","shape":[2],"data_offsets":[0,1]}}', bytes(1), "'I4', which ftjax does not read"),
    "entry without type": (b'{"w":{"shape":[2],"data_offsets":[0,8]}}', bytes(8), "must have dtype, shape and data_offsets"),
    "metadata": (b'{"__metadata__":{"a":[]}}', b"", "__metadata__ is not a table of texts"),
    "longer than told": (f'{{"w":{ENTRY}}}'.encode(), bytes(9), "too long: expected"),
}


@pytest.mark.parametrize("case", HEADERS)
def test_hostile_corpus_of_safetensors_headers_is_refused(case, tmp_path):
    header, data, message = HEADERS[case]
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes(header, data))
    with pytest.raises(WeightsError) as refusal:
        open_weights(str(tmp_path / "x.safetensors"))
    assert message in str(refusal.value)


def test_hostile_corpus_a_huge_header_is_refused_before_it_is_read(tmp_path):
    (tmp_path / "x.safetensors").write_bytes((2**40).to_bytes(8, "little") + b"{}")
    with pytest.raises(WeightsError, match="a header of 1099511627776 bytes; the limit is 16777216"):
        open_weights(str(tmp_path / "x.safetensors"))


def test_hostile_corpus_too_many_tensors_are_refused(tmp_path):
    entries = {f"t{index}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for index in range(100_001)}
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes(json.dumps(entries).encode()))
    with pytest.raises(WeightsError, match="the header lists 100001 tensors; the limit is 100000"):
        open_weights(str(tmp_path / "x.safetensors"))


def test_hostile_corpus_names_are_only_keys(tmp_path):
    name = "../../outside"
    (tmp_path / "x.safetensors").write_bytes(safetensors_bytes(f'{{"{name}":{ENTRY}}}'.encode(), bytes(8)))
    assert list(open_weights(str(tmp_path / "x.safetensors")).tensors) == [name]
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("shard", ["../other.safetensors", "/etc/passwd", "..", "a\\b"])
def test_hostile_corpus_an_index_cannot_name_a_file_elsewhere(shard, tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": shard}}))
    with pytest.raises(WeightsError, match="is not a plain file name"):
        open_weights(str(tmp_path))


def test_hostile_corpus_of_npz_archives_is_refused(tmp_path):
    objects = np.array([Bomb(tmp_path / "owned")], dtype=object)
    lying = npy(np.zeros(4)).replace(b"(4,)", b"(9,)")
    cases = {
        "objects": ({"w.npy": npy(objects, allow_pickle=True)}, "holds Python objects, which could run code"),
        "not an array": ({"w.npy": b"hello"}, "'w' is not a NumPy array"),
        "texts": ({"w.npy": npy(np.array(["a"]))}, "not numbers"),
        "records": ({"w.npy": npy(np.zeros(2, [("a", "f4")]))}, "not numbers"),
        "lying shape": ({"w.npy": lying}, "does not fit its 32 bytes"),
        "bomb": ({"w.npy": npy(np.zeros(10_000_000))}, "the limit is 100 times"),
    }
    for case, (entries, message) in cases.items():
        path = write_zip(tmp_path / f"{case}.npz", entries, zipfile.ZIP_DEFLATED)
        with pytest.raises(WeightsError) as refusal:
            open_weights(str(path))
        assert message in str(refusal.value), case
    assert not (tmp_path / "owned").exists()


def test_hostile_corpus_npz_with_a_name_twice_is_refused(tmp_path):
    write_zip(tmp_path / "x.npz", {"w.npy": npy(np.zeros(2)), "w": npy(np.zeros(2))})
    from ftjax.weights.readers.npz import read_npz

    with pytest.raises(WeightsError, match="the name 'w' occurs twice"):
        read_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("raw", [b"\x81\xa1w", b"\x81\xa1w\xc4\xff", b"\xdf\xff\xff\xff\xff", b"\x81\xa1w\xc7\x03\x01abc", b"\x91" * 3000], ids=range(5))
def test_hostile_corpus_of_msgpack_files_is_refused(raw, tmp_path):
    (tmp_path / "x.msgpack").write_bytes(raw)
    with pytest.raises(WeightsError, match=r"not a readable Flax msgpack file|not a known format"):
        open_weights(str(tmp_path / "x.msgpack"))


def test_hostile_corpus_ordered_dict_from_pairs_is_followed(tmp_path):
    pair = b"(" + text("w") + tensor("FloatStorage", "0", 4, 0, (2, 2), (2, 1)) + b"\x86l"
    value = b"ccollections\nOrderedDict\n" + pair.replace(b"(" + text("w"), b"](" + text("w"), 1).removesuffix(b"l") + b"e\x85R"
    assert ORDERED_DICT not in value[:20]
    assert open_weights(str(torch_file(tmp_path / "x.pth", value, FOUR))).tensors["w"].shape == (2, 2)
