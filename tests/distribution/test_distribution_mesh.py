"""Any number of devices makes the mesh that was asked for, or a message that says which would do."""

import jax
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax.sharding import AxisType

from ftjax.config import MeshConfig
from ftjax.distribution import AXES, make_mesh
from ftjax.errors import ConfigError


def sizes(devices: int, **config: int) -> tuple[int, ...]:
    return tuple(make_mesh(MeshConfig(**config), jax.devices()[:devices]).shape.values())


def test_all_devices_along_data_by_default():
    mesh = make_mesh(MeshConfig())
    assert dict(mesh.shape) == {"data": 8, "fsdp": 1, "tensor": 1}
    assert mesh.axis_names == AXES
    assert set(mesh.axis_types) == {AxisType.Auto}


def test_minus_one_takes_the_rest():
    assert sizes(8, fsdp=2, tensor=2) == (2, 2, 2)
    assert sizes(8, data=1, fsdp=-1, tensor=2) == (1, 4, 2)
    assert sizes(1) == (1, 1, 1)
    assert sizes(6, data=2, fsdp=3, tensor=1) == (2, 3, 1)


@given(st.integers(1, 8), st.integers(-1, 9), st.integers(-1, 9), st.integers(-1, 9))
def test_a_mesh_uses_every_device_or_is_refused(devices: int, data: int, fsdp: int, tensor: int):
    try:
        result = sizes(devices, data=data, fsdp=fsdp, tensor=tensor)
    except ConfigError:
        return
    assert result[0] * result[1] * result[2] == devices
    assert all(asked in (-1, got) for asked, got in zip((data, fsdp, tensor), result, strict=True))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"data": 3},
            "mesh data=3 x fsdp=1 x tensor=1 = 3, but there are 8 devices; set one axis to -1 to take what is left (the others may multiply to 2 or 4)",
        ),
        ({"data": 2, "fsdp": 2}, "mesh data=2 x fsdp=2 x tensor=1 = 4, but there are 8 devices; set one axis to -1"),
        ({"tensor": 3}, "mesh fsdp=1 x tensor=3 = 3, which does not divide the devices: there are 8 devices; nearest products that do: 2 or 4"),
        ({"fsdp": -1}, "mesh.data and mesh.fsdp are both -1; only one axis can take what is left, give the other a number"),
        ({"tensor": 0}, "mesh.tensor=0 is no number of devices; allowed: 1 or more, or -1 for all that are left"),
        ({"data": -2}, "mesh.data=-2 is no number of devices"),
    ],
)
def test_what_does_not_fit_is_explained(config: dict[str, int], message: str):
    with pytest.raises(ConfigError) as caught:
        make_mesh(MeshConfig(**config))
    assert str(caught.value).startswith(message)


def test_one_device_is_said_in_the_singular():
    with pytest.raises(ConfigError, match="mesh data=2 x fsdp=1 x tensor=1 = 2, but there is 1 device; "):
        make_mesh(MeshConfig(data=2), jax.devices()[:1])
