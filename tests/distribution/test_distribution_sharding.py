"""Every array lies where the rules say, on any mesh, and where it lies changes no number."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import NamedSharding, PartitionSpec

from ftjax.config import MeshConfig
from ftjax.distribution import batch_devices, check_batch_size, local_rows, make_mesh, parameter_sharding, put_batch, replicated, shard_tree, state_shardings
from ftjax.errors import ConfigError

MESHES = [(8, 1, 1), (2, 2, 2), (1, 4, 2), (1, 1, 8), (1, 1, 1)]


def mesh_of(sizes: tuple[int, int, int]):
    data, fsdp, tensor = sizes
    return make_mesh(MeshConfig(data=data, fsdp=fsdp, tensor=tensor), jax.devices()[: data * fsdp * tensor])


@pytest.mark.parametrize(
    ("shape", "rule", "expected"),
    [
        ((512, 256), (None, "tensor"), PartitionSpec("fsdp", "tensor")),
        ((512, 256), ("tensor", None), PartitionSpec("tensor", "fsdp")),
        ((512, 256), (None, None), PartitionSpec("fsdp")),
        ((256, 512), (None, None), PartitionSpec(None, "fsdp")),
        ((511, 256), ("tensor", None), PartitionSpec(None, "fsdp")),
        ((511, 257), (None, "tensor"), PartitionSpec()),
        ((16, 16), (None, "tensor"), PartitionSpec(None, "tensor")),
        ((16, 16), (None, None), PartitionSpec()),
        ((3, 3, 256, 256), (None,) * 4, PartitionSpec(None, None, "fsdp")),
        ((), (), PartitionSpec()),
    ],
)
def test_rules_of_a_parameter(shape, rule, expected):
    assert parameter_sharding(mesh_of((2, 2, 2)), "a", shape, rule).spec == expected


@pytest.mark.parametrize("rule", [(None, "tensor"), ("tensor", None), (None, None)])
def test_on_one_device_everything_is_whole(rule):
    assert parameter_sharding(mesh_of((1, 1, 1)), "a", (512, 256), rule).spec == PartitionSpec()


@settings(deadline=None)
@given(st.lists(st.integers(1, 48), max_size=4), st.sampled_from(MESHES), st.data())
def test_any_rule_on_any_mesh_can_be_placed(shape: list[int], sizes: tuple[int, int, int], data: st.DataObject):
    marked = data.draw(st.integers(-1, len(shape) - 1))
    rule = tuple("tensor" if axis == marked else None for axis in range(len(shape)))
    sharding = parameter_sharding(mesh_of(sizes), "a", tuple(shape), rule, minimum_size=1)
    assert len(sharding.shard_shape(tuple(shape))) == len(shape)


@pytest.mark.parametrize("rule", [(None,), ("data", None), ("tensor", "tensor")])
def test_a_wrong_rule_names_the_parameter(rule):
    with pytest.raises(ConfigError, match=r"head/kernel: \(.*\) is no rule for shape \(4, 4\); allowed: 'tensor' for one dimension at most"):
        parameter_sharding(mesh_of((2, 2, 2)), "head/kernel", (4, 4), rule)


def rule(path: str, shape: tuple[int, ...]) -> tuple[str | None, ...]:
    """The model's rule of these tests: `up` is cut in its output, `down` in its input."""
    return {"up": (None, "tensor"), "down": ("tensor", None)}.get(path.split("/")[-2], (None,) * len(shape)) if len(shape) == 2 else (None,) * len(shape)


def make_params(width: int = 16, dtype: str = "float32"):
    rng = np.random.default_rng(0)

    def draw(*shape):
        return jnp.asarray(rng.normal(size=shape) / 4, dtype)

    return {
        "mlp": {"up": {"kernel": draw(width, 4 * width), "bias": draw(4 * width)}, "down": {"kernel": draw(4 * width, width), "bias": draw(width)}},
        "head": {"kernel": draw(width, 8)},
    }


def test_moments_follow_their_parameter():
    mesh, params = mesh_of((2, 2, 2)), make_params()
    state = {
        "step": jnp.int32(0),
        "live": params,
        "opt_state": optax.adamw(1e-3).init(params),
        "statistics": {"head": {"kernel": jnp.ones(3)}, "up": {"kernel": jnp.ones((16, 64))}},
    }
    placed = state_shardings(mesh, state, params, rule, minimum_size=64)
    assert placed["live"]["mlp"]["up"]["kernel"].spec == PartitionSpec("fsdp", "tensor")
    for moments in (placed["opt_state"][0].mu, placed["opt_state"][0].nu):
        assert moments == placed["live"]
    for whole in (placed["step"], placed["opt_state"][0].count, placed["statistics"]["head"]["kernel"], placed["statistics"]["up"]["kernel"]):
        assert whole == replicated(mesh)


def test_holes_stay_holes():
    mesh, params = mesh_of((2, 2, 2)), {"a": {"kernel": jnp.ones((8, 8)), "bias": None}}
    assert state_shardings(mesh, params, params, rule)["a"]["bias"] is None


@pytest.mark.parametrize("sizes", MESHES)
def test_shard_tree_keeps_the_numbers(sizes):
    mesh, params = mesh_of(sizes), make_params()
    placed = shard_tree(params, state_shardings(mesh, params, params, rule, minimum_size=1))
    jax.tree.map(np.testing.assert_array_equal, placed, params)
    assert {leaf.sharding.mesh.shape_tuple for leaf in jax.tree.leaves(placed)} == {mesh.shape_tuple}


@pytest.mark.parametrize("sizes", MESHES)
def test_a_batch_lies_in_order_over_data_and_fsdp(sizes):
    mesh = mesh_of(sizes)
    batch = {"image": np.arange(16 * 4, dtype=np.uint8).reshape(16, 4), "label": np.arange(16, dtype=np.int32)}
    placed = put_batch(batch, mesh)
    for name, rows in batch.items():
        np.testing.assert_array_equal(placed[name], rows)
        assert placed[name].sharding == NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
        assert placed[name].addressable_shards[0].data.shape[0] == 16 // batch_devices(mesh)
    np.testing.assert_array_equal(local_rows(mesh, 16), np.arange(16))


@pytest.mark.parametrize(("size", "nearest"), [(30, "28 or 32"), (3, "4"), (0, "4"), (-1, "4"), (33, "32 or 36")])
def test_a_batch_that_cannot_be_spread_names_the_nearest_sizes(size: int, nearest: str):
    with pytest.raises(ConfigError) as caught:
        check_batch_size(mesh_of((2, 2, 2)), size)
    assert str(caught.value) == (f"train.batch_size={size} cannot be spread evenly over 4 devices (mesh.data x mesh.fsdp); nearest sizes that can: {nearest}")


def test_a_batch_that_cannot_be_spread_is_not_put():
    with pytest.raises(ConfigError, match="the batch's size=3 cannot be spread evenly over 4 devices"):
        put_batch({"label": np.zeros(3, np.int32)}, mesh_of((2, 2, 2)))


def loss(params, batch):
    hidden = jax.nn.gelu(batch["x"] @ params["mlp"]["up"]["kernel"] + params["mlp"]["up"]["bias"][None])
    hidden = hidden @ params["mlp"]["down"]["kernel"] + params["mlp"]["down"]["bias"][None]
    logits = jax.nn.log_softmax(hidden @ params["head"]["kernel"])
    return -jnp.sum(logits * jax.nn.one_hot(batch["label"], 8, dtype=logits.dtype)) / len(batch["label"])


def test_mesh_equivalence_f64_of_loss_and_gradient():
    """One function, any mesh: the same loss and gradient to 1e-12 in float64."""
    with jax.enable_x64(True):
        params = make_params(dtype="float64")
        rng = np.random.default_rng(1)
        batch = {"x": rng.normal(size=(32, 16)), "label": rng.integers(0, 8, 32)}
        expected = jax.jit(jax.value_and_grad(loss))(params, batch)
        for sizes in ((8, 1, 1), (2, 2, 2), (1, 4, 2), (1, 1, 1)):
            mesh = mesh_of(sizes)
            shardings = state_shardings(mesh, params, params, rule, minimum_size=1)
            compute = jax.jit(jax.value_and_grad(loss), out_shardings=(replicated(mesh), shardings))
            value, gradient = compute(shard_tree(params, shardings), put_batch(batch, mesh))
            assert gradient["mlp"]["up"]["kernel"].dtype == jnp.float64
            jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=1e-12), (value, gradient), expected)
