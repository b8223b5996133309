"""Files of weights made by hand for the tests: torch zips without torch, pickles opcode by opcode, targets from the real models."""

import io
import struct
import zipfile
from pathlib import Path

import jax
import ml_dtypes
import numpy as np

from ftjax import models, trees

STORAGE_OF = {
    np.dtype("f8"): "DoubleStorage",
    np.dtype("f4"): "FloatStorage",
    np.dtype("f2"): "HalfStorage",
    np.dtype("i8"): "LongStorage",
    np.dtype(ml_dtypes.bfloat16): "BFloat16Storage",
}
ORDERED_DICT = b"ccollections\nOrderedDict\n)R"


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    data = value.to_bytes((value.bit_length() + 8) // 8, "little", signed=True)
    return b"\x8a" + bytes([len(data)]) + data


def tensor(storage: str, key: str, count: int, offset: int, shape, strides) -> bytes:
    """The opcodes that torch.save writes for one tensor."""
    identity = b"(" + text("storage") + f"ctorch\n{storage}\n".encode() + text(key) + text("cpu") + integer(count) + b"tQ"
    sizes = b"(" + b"".join(map(integer, shape)) + b"t" + b"(" + b"".join(map(integer, strides)) + b"t"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + identity + integer(offset) + sizes + b"\x89" + ORDERED_DICT + b"tR"


def table(items: dict[str, bytes]) -> bytes:
    return ORDERED_DICT + b"(" + b"".join(text(name) + value for name, value in items.items()) + b"u"


def program(value: bytes) -> bytes:
    return b"\x80\x02" + value + b"."


def state_program(state: dict[str, np.ndarray]) -> bytes:
    """A dict of contiguous tensors, the k-th of which lies in storage k."""
    items = {}
    for index, (name, array) in enumerate(state.items()):
        strides = [int(stride) // array.itemsize for stride in np.zeros(array.shape, array.dtype).strides]
        items[name] = tensor(STORAGE_OF[array.dtype], str(index), array.size, 0, array.shape, strides)
    return table(items)


def write_zip(path: Path, entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def write_torch(path: Path, state: dict[str, np.ndarray], wrapper: str | None = None) -> Path:
    """What `torch.save(state, path)` or `torch.save({wrapper: state, "epoch": 3}, path)` writes."""
    value = state_program(state)
    if wrapper:
        value = b"}(" + text(wrapper) + value + text("epoch") + integer(3) + b"u"
    data = {f"archive/data/{index}": np.ascontiguousarray(array).tobytes() for index, array in enumerate(state.values())}
    return write_zip(path, {"archive/data.pkl": program(value), "archive/byteorder": b"little", **data, "archive/version": b"3\n"})


def safetensors_bytes(header: bytes, data: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + data


def npy(array: np.ndarray, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def same(tensors, arrays) -> None:
    """Lazy tensors equal arrays in names, shapes, types and bits."""
    assert set(tensors) == set(arrays)
    for name, array in arrays.items():
        assert tensors.shape(name) == array.shape
        assert tensors.dtype(name) == array.dtype == tensors[name].dtype
        assert tensors[name].tobytes() == np.ascontiguousarray(array).tobytes()


def build(recognised, num_classes: int | None = None, image_size: tuple[int, int] | None = None) -> models.Model:
    classes = num_classes or recognised.num_classes or 10
    return models.build(models.ModelSpec(recognised.family, recognised.options, classes, image_size or recognised.image_size))


def leaves(params, extra) -> dict:
    return trees.flatten(params) | trees.flatten(extra.get("batch_stats", {}))


def target_of(model: models.Model) -> dict:
    """`{path: (shape, dtype)}` of a model."""
    return {path: (leaf.shape, leaf.dtype) for path, leaf in leaves(*jax.eval_shape(model.init, jax.random.key(0))).items()}


def zeros_of(target: dict) -> dict[str, np.ndarray]:
    """An initial model that costs nothing to make."""
    return {path: np.zeros(shape, dtype) for path, (shape, dtype) in target.items()}


def loaded_model(model: models.Model, flat: dict[str, np.ndarray]):
    """`(params, extra)` of a model from a flat table of all its leaves."""
    shapes, extra = jax.eval_shape(model.init, jax.random.key(0))
    params = trees.unflatten({path: flat[path] for path in trees.flatten(shapes)})
    statistics = trees.unflatten({path: flat[path] for path in trees.flatten(extra.get("batch_stats", {}))})
    return params, ({"batch_stats": statistics} if statistics else {})


def timm_vit_state(width: int = 128, depth: int = 2, patch: int = 4, grid: int = 4, classes: int = 5, seed: int = 0) -> dict[str, np.ndarray]:
    """A small ViT with timm's names, random."""
    rng = np.random.default_rng(seed)
    shapes = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 1 + grid * grid, width),
        "patch_embed.proj.weight": (width, 3, patch, patch),
        "patch_embed.proj.bias": (width,),
    }
    for index in range(depth):
        block = f"blocks.{index}"
        for norm in ("norm1", "norm2"):
            shapes |= {f"{block}.{norm}.weight": (width,), f"{block}.{norm}.bias": (width,)}
        for layer, outputs, inputs in (("attn.qkv", 3, 1), ("attn.proj", 1, 1), ("mlp.fc1", 4, 1), ("mlp.fc2", 1, 4)):
            shapes |= {f"{block}.{layer}.weight": (outputs * width, inputs * width), f"{block}.{layer}.bias": (outputs * width,)}
    shapes |= {"norm.weight": (width,), "norm.bias": (width,), "head.weight": (classes, width), "head.bias": (classes,)}
    return {name: rng.normal(size=shape, scale=0.1).astype(np.float32) for name, shape in shapes.items()}


def google_vit_state(big_vision: bool, width: int = 96, heads: int = 4, depth: int = 2, patch: int = 4, grid: int = 4, classes: int = 5) -> dict:
    """A small ViT with the names of vision_transformer or big_vision, random."""
    rng = np.random.default_rng(1)
    size = width // heads
    shapes = {"cls": (1, 1, width), "embedding/kernel": (patch, patch, 3, width), "embedding/bias": (width,)}
    position, norm2, mlp, attention = (
        ("pos_embedding", "LayerNorm_1", "MlpBlock_0", "MultiHeadDotProductAttention_0")
        if big_vision
        else ("Transformer/posembed_input/pos_embedding", "LayerNorm_2", "MlpBlock_3", "MultiHeadDotProductAttention_1")
    )
    shapes[position] = (1, grid * grid + (0 if big_vision else 1), width)
    for index in range(depth):
        block = f"Transformer/encoderblock_{index}"
        for norm in ("LayerNorm_0", norm2):
            shapes |= {f"{block}/{norm}/scale": (width,), f"{block}/{norm}/bias": (width,)}
        for name in ("query", "key", "value"):
            shapes |= {f"{block}/{attention}/{name}/kernel": (width, heads, size), f"{block}/{attention}/{name}/bias": (heads, size)}
        shapes |= {f"{block}/{attention}/out/kernel": (heads, size, width), f"{block}/{attention}/out/bias": (width,)}
        shapes |= {f"{block}/{mlp}/Dense_0/kernel": (width, 4 * width), f"{block}/{mlp}/Dense_0/bias": (4 * width,)}
        shapes |= {f"{block}/{mlp}/Dense_1/kernel": (4 * width, width), f"{block}/{mlp}/Dense_1/bias": (width,)}
    shapes |= {"Transformer/encoder_norm/scale": (width,), "Transformer/encoder_norm/bias": (width,)}
    shapes |= {"head/kernel": (width, classes), "head/bias": (classes,)}
    prefix = "params/" if big_vision else ""
    return {prefix + name: rng.normal(size=shape, scale=0.1).astype(np.float32) for name, shape in shapes.items()}
