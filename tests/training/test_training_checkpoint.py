"""A checkpoint gives back what was saved, on any mesh, into any types; what does not fit is explained; old steps go only when new ones are good."""

import concurrent.futures
import contextlib
import dataclasses
import re
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from orbax.checkpoint import v1 as ocp

from ftjax.errors import CheckpointError
from ftjax.training import checkpoint
from ftjax.training.checkpoint import Checkpoints


class State(NamedTuple):
    step: jax.Array
    live: Any
    still: Any
    opt_state: Any
    key: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class OtherState:
    step: jax.Array
    live: Any
    still: Any
    opt_state: Any
    key: jax.Array


def make_state(seed: int = 0) -> State:
    """A state with everything that occurs: nested dicts, holes, optax tuples, scalars, narrow types, an empty array."""
    keys = jax.random.split(jax.random.PRNGKey(seed), 3)
    params = {
        "encoder": {"block_0": {"kernel": jax.random.normal(keys[0], (16, 24)), "bias": None}},
        "head": {"kernel": jax.random.normal(keys[1], (24, 8)).astype(jnp.bfloat16)},
        "none_yet": jnp.zeros((0, 4)),
    }
    still = {"stem": {"mask": jnp.arange(8) % 2 == 0, "counts": jnp.arange(8, dtype=jnp.int8)}}
    return State(jnp.int32(seed), params, still, optax.adamw(1e-3).init(params), jax.random.PRNGKey(seed))


def abstract_of(tree: Any, sharding: Any = None) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding or leaf.sharding), tree)


def assert_equal_bits(left: Any, right: Any) -> None:
    assert jax.tree.structure(left) == jax.tree.structure(right)
    for a, b in zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True):
        assert a.dtype == b.dtype
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.fixture
def saved(tmp_path: Path):
    """Checkpoints in a fresh folder, closed at the end whatever happens."""
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    yield checkpoints
    checkpoints.close()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_saved_restores_to_none_and_writes_nothing(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.restore(abstract_of(make_state())) is None
    assert checkpoints.restore_best(abstract_of(make_state())) is None
    checkpoints.close()
    assert not (tmp_path / "checkpoints").exists()


def test_round_trip_is_bit_exact(saved: Checkpoints, tmp_path: Path):
    state, info = make_state(3), {"best": 0.1 + 0.2, "history": [1, 2], "name": "\u00e9"}
    saved.save(3, state, info)
    saved.wait()
    again = Checkpoints(tmp_path / "checkpoints")
    restored = again.restore(abstract_of(state))
    again.close()
    assert restored is not None
    assert (restored.step, restored.info, restored.skipped) == (3, info, ())
    assert isinstance(restored.tree, State)
    assert_equal_bits(restored.tree, state)


def test_python_types_do_not_matter(saved: Checkpoints):
    state = make_state(1)
    saved.save(1, state, {})
    other = OtherState(*state)
    restored = saved.restore(abstract_of(other))
    assert isinstance(restored.tree, OtherState)
    assert_equal_bits(restored.tree, other)


def test_restored_metadata_names_versions(saved: Checkpoints, tmp_path: Path):
    saved.save(1, make_state(), {})
    saved.wait()
    record = ocp.metadata(tmp_path / "checkpoints/last/1").custom_metadata["ftjax"]
    assert record["versions"]["jax"] == jax.__version__
    assert record["arrays"]["live/head/kernel"]["dtype"] == "bfloat16"


@pytest.mark.parametrize("source", [(8, 1), (2, 4), (1, 1)])
@pytest.mark.parametrize("target", [(8, 1), (4, 2), (1, 1)])
def test_restore_other_mesh(saved: Checkpoints, source: tuple[int, int], target: tuple[int, int]):
    def sharding_on(sizes):
        mesh = jax.make_mesh(sizes, ("x", "y"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[: sizes[0] * sizes[1]])
        return lambda leaf: NamedSharding(mesh, PartitionSpec("x", "y") if leaf.ndim == 2 else PartitionSpec())

    tree = {"kernel": jax.random.normal(jax.random.PRNGKey(0), (16, 8)), "bias": jnp.arange(8.0), "count": jnp.int32(5)}
    place = sharding_on(source)
    saved.save(7, jax.tree.map(lambda leaf: jax.device_put(leaf, place(leaf)), tree), {})
    place = sharding_on(target)
    wanted = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place(leaf)), tree)
    restored = saved.restore(wanted)
    assert_equal_bits(restored.tree, tree)
    for leaf, want in zip(jax.tree.leaves(restored.tree), jax.tree.leaves(wanted), strict=True):
        assert leaf.sharding == want.sharding


def test_without_a_sharding_arrays_go_to_the_first_device(saved: Checkpoints):
    saved.save(1, {"a": jnp.ones(3)}, {})
    restored = saved.restore({"a": jax.ShapeDtypeStruct((3,), jnp.float32)})
    assert restored.tree["a"].devices() == {jax.devices()[0]}


def test_donate_after_save(saved: Checkpoints):
    def make(step: int) -> dict[str, jax.Array]:
        return {"a": jax.random.normal(jax.random.PRNGKey(step), (512, 513)), "b": jnp.arange(100_000.0) + step}

    update = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf * -3 + 1, tree), donate_argnums=0)
    for step in range(1, 6):
        tree = make(step)
        saved.save(step, tree, {})
        donated = update(tree)
        for _ in range(20):
            previous, donated = donated, update(donated)
            assert previous["a"].is_deleted()
        restored = saved.restore(abstract_of(donated))
        assert restored.step == step
        assert_equal_bits(restored.tree, make(step))


def test_a_second_save_waits_for_the_first(saved: Checkpoints, monkeypatch: pytest.MonkeyPatch):
    order, begin, check = [], checkpoint._begin, checkpoint._read_back
    monkeypatch.setattr(checkpoint, "_begin", lambda path, *rest: order.append(f"begin {path.name}") or begin(path, *rest))

    def slow(path, record):
        time.sleep(0.2)
        check(path, record)
        order.append(f"checked {path.name}")

    monkeypatch.setattr(checkpoint, "_read_back", slow)
    for step in (1, 2):
        saved.save(step, {"a": jnp.ones(3)}, {})
    saved.wait()
    assert order == ["begin 1", "checked 1", "begin 2", "checked 2"]


def test_saving_does_not_wait_for_the_disk(saved: Checkpoints, monkeypatch: pytest.MonkeyPatch):
    release, check = threading.Event(), checkpoint._read_back
    monkeypatch.setattr(checkpoint, "_read_back", lambda *arguments: release.wait(60) and check(*arguments))
    saved.save(1, {"a": jnp.ones(3)}, {})
    saved.check()
    assert saved.last_step is None
    release.set()
    saved.wait()
    assert saved.last_step == 1


def test_check_raises_a_failure_as_soon_as_it_is_known(saved: Checkpoints, monkeypatch: pytest.MonkeyPatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "_read_back", fail)
    saved.save(1, {"a": jnp.ones(3)}, {})
    concurrent.futures.wait([saved._in_flight], timeout=60)
    with pytest.raises(CheckpointError, match=r"step 1 was not saved to .*: the disk is full: 0\.0 MB needed"):
        saved.check()
    saved.check()


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_are_kept(tmp_path: Path, keep: int):
    checkpoints = Checkpoints(tmp_path, keep=keep)
    for step in range(1, 6):
        checkpoints.save(step * 10, {"a": jnp.full(3, step)}, {})
    checkpoints.close()
    assert names(tmp_path / "last") == [str(step) for step in (10, 20, 30, 40, 50)[-keep:]]


def test_the_old_step_goes_only_after_the_new_one_is_checked(saved: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    seen, check = [], checkpoint._read_back
    monkeypatch.setattr(checkpoint, "_read_back", lambda *arguments: (seen.append(names(tmp_path / "checkpoints/last")), check(*arguments)))
    for step in (1, 2):
        saved.save(step, {"a": jnp.full(3, step)}, {})
    saved.wait()
    assert seen == [["1"], ["1", "2"]]
    assert names(tmp_path / "checkpoints/last") == ["2"]


def test_a_step_that_reads_back_differently_is_refused_and_the_old_one_kept(saved: Checkpoints, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saved.save(1, {"a": jnp.ones(3)}, {})
    saved.wait()
    begin = checkpoint._begin
    monkeypatch.setattr(checkpoint, "_begin", lambda path, arrays, record: begin(path, {"a": arrays["a"] + 1}, record))
    saved.save(2, {"a": jnp.ones(3)}, {})
    with pytest.raises(CheckpointError, match=r"step 2 was not saved to .*last: the contents changed since they were saved: a; kept: step 1$"):
        saved.wait()
    assert names(tmp_path / "checkpoints/last") == ["1"]
    monkeypatch.undo()
    saved.save(3, {"a": jnp.ones(3)}, {})
    saved.wait()
    assert names(tmp_path / "checkpoints/last") == ["3"]


def test_a_failed_save_is_told_once_and_the_next_one_works(saved: Checkpoints, monkeypatch: pytest.MonkeyPatch):
    def fail(*_):
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "_read_back", fail)
        saved.save(1, {"a": jnp.ones(3)}, {})
        with pytest.raises(CheckpointError, match=r"step 1 was not saved to .*last: OSError: \[Errno 5\] Input/output error; kept: step 1"):
            saved.save(2, {"a": jnp.ones(3)}, {})
    saved.wait()
    saved.save_best(2, {"a": jnp.ones(3)}, {})
    assert saved.restore_best({"a": jnp.ones(3)}).step == 2


def test_best_keeps_one_whatever_its_step(saved: Checkpoints, tmp_path: Path):
    for step, value in ((30, 1.0), (50, 2.0), (40, 3.0)):
        saved.save_best(step, {"a": jnp.full(3, value)}, {"metric": value})
    restored = saved.restore_best({"a": jnp.zeros(3)})
    assert (restored.step, restored.info) == (40, {"metric": 3.0})
    assert names(tmp_path / "checkpoints/best") == ["40"]
    assert saved.restore({"a": jnp.zeros(3)}) is None


def test_best_of_an_abandoned_future_is_replaced(saved: Checkpoints, tmp_path: Path):
    saved.save_best(50, {"a": jnp.zeros(3)}, {"run": 1})
    saved.wait()
    resumed = Checkpoints(tmp_path / "checkpoints")
    resumed.save_best(50, {"a": jnp.ones(3)}, {"run": 2})
    restored = resumed.restore_best({"a": jnp.zeros(3)})
    resumed.close()
    assert restored.info == {"run": 2}
    assert names(tmp_path / "checkpoints/best") == ["50"]


def test_a_soup_keeps_the_steps_it_is_told_and_gives_each_back(saved: Checkpoints, tmp_path: Path):
    for step, keep in ((1, ()), (2, (1,)), (3, (1, 2)), (4, (1, 3))):
        saved.save_soup(step, {"w": jnp.full(3, float(step))}, {"value": step}, keep)
    saved.wait()
    assert names(tmp_path / "checkpoints/soup") == ["1", "3", "4"]
    abstract = {"w": jnp.zeros(3)}
    restored = [saved.restore_soup(step, abstract) for step in (4, 1, 3)]
    assert [(found.step, found.info["value"], float(found.tree["w"][0])) for found in restored if found] == [(4, 4, 4.0), (1, 1, 1.0), (3, 3, 3.0)]
    assert saved.restore_soup(2, abstract) is None
    saved.keep_soup((3,))
    assert names(tmp_path / "checkpoints/soup") == ["3"]


def test_weights_for_a_soup_from_an_abandoned_future_are_saved_again(saved: Checkpoints, tmp_path: Path):
    saved.save_soup(1, {"w": jnp.ones(3)}, {}, ())
    saved.save_soup(5, {"w": jnp.full(3, 5.0)}, {}, (1,))
    saved.wait()
    with contextlib.closing(Checkpoints(tmp_path / "checkpoints")) as again:
        again.save_soup(3, {"w": jnp.full(3, 3.0)}, {}, (1,))
        again.save_soup(5, {"w": jnp.full(3, 6.0)}, {}, (1, 3))
        again.wait()
        assert names(tmp_path / "checkpoints/soup") == ["1", "3", "5"]
        restored = again.restore_soup(5, {"w": jnp.zeros(3)})
        assert restored is not None
        assert float(restored.tree["w"][0]) == 6


def test_a_superseded_step_is_restorable_until_the_new_one_is_there(saved: Checkpoints, tmp_path: Path):
    saved.save_best(50, {"a": jnp.zeros(3)}, {"run": 1})
    saved.wait()
    (tmp_path / "checkpoints/best/50").rename(tmp_path / "checkpoints/best/50.superseded")
    (tmp_path / "checkpoints/best/50.orbax-checkpoint-tmp").mkdir()
    resumed = Checkpoints(tmp_path / "checkpoints")
    assert resumed.restore_best({"a": jnp.zeros(3)}).info == {"run": 1}
    resumed.save_best(60, {"a": jnp.ones(3)}, {"run": 2})
    resumed.close()
    assert names(tmp_path / "checkpoints/best") == ["60"]


def test_leftovers_are_ignored_and_removed_by_the_first_save(tmp_path: Path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"a": jnp.ones(3)}, {})
    checkpoints.close()
    for leftover in ("2.orbax-checkpoint-tmp", "3.orbax-checkpoint-tmp-17", "0.deleted"):
        (tmp_path / "last" / leftover / "state").mkdir(parents=True)
    (tmp_path / "last/notes.txt").write_text("mine")
    again = Checkpoints(tmp_path)
    assert again.restore({"a": jnp.zeros(3)}).step == 1
    assert len(names(tmp_path / "last")) == 5
    again.save(4, {"a": jnp.ones(3)}, {})
    again.close()
    assert names(tmp_path / "last") == ["4", "notes.txt"]


def test_a_step_is_saved_once(saved: Checkpoints, monkeypatch: pytest.MonkeyPatch):
    saved.save(5, {"a": jnp.ones(3)}, {})
    monkeypatch.setattr(checkpoint, "_begin", lambda *_: pytest.fail("saved again"))
    saved.save(5, {"a": jnp.ones(3)}, {})


def test_steps_of_another_run_are_not_overwritten(saved: Checkpoints, tmp_path: Path):
    saved.save(50, {"a": jnp.ones(3)}, {})
    saved.wait()
    stranger = Checkpoints(tmp_path / "checkpoints")
    with pytest.raises(CheckpointError, match=r"last already holds step 50, so step 10 is not saved there: restore that one, or give this run a directory"):
        stranger.save(10, {"a": jnp.ones(3)}, {})
    stranger.close()


def test_another_model_is_explained(saved: Checkpoints):
    saved.save(1, {"head": {"kernel": jnp.ones((4, 10)), "bias": jnp.ones(10)}, "old": jnp.ones(2)}, {})
    saved.wait()
    wanted = {"head": {"kernel": jnp.ones((4, 5)), "bias": jnp.ones(10, jnp.bfloat16)}, "new": jnp.ones(2)}
    with pytest.raises(CheckpointError) as caught:
        saved.restore(wanted)
    message = str(caught.value).split("checkpoints/last/")[1]
    assert message == (
        "1 was saved by another model or configuration (missing: new; unexpected: old; different: head/bias (float32[10] saved, bfloat16[10] wanted), "
        "head/kernel (float32[4, 10] saved, float32[4, 5] wanted)): use the configuration it was started with, or another work directory"
    )


def test_what_cannot_be_stored_is_named(saved: Checkpoints):
    for tree, message in (
        ({"count": 3}, "count is a int, not a jax array: make it one, or put it into info"),
        ({"a": np.ones(3)}, "a is a ndarray, not a jax array"),
        ({"key": jax.random.key(0)}, r"key: a typed PRNG key \(key<fry>\) cannot be checkpointed; store its bits"),
        ({"a/b": jnp.ones(1), "a": {"b": jnp.ones(1)}}, "two leaves of the tree have the same path; a key must not contain '/'"),
        ({"nothing": None}, "the tree holds no arrays"),
    ):
        with pytest.raises(CheckpointError, match=message):
            saved.save(1, tree, {})
    for info in ({"loss": float("nan")}, {"what": object()}):
        with pytest.raises(CheckpointError, match="info of step 1 is not JSON: "):
            saved.save(1, {"a": jnp.ones(3)}, info)
    with pytest.raises(CheckpointError, match="keep=0: at least one checkpoint has to be kept"):
        Checkpoints("anywhere", keep=0)


def test_large_states_are_read_back_in_parts(saved: Checkpoints, monkeypatch: pytest.MonkeyPatch):
    seen, compare = [], checkpoint.compare
    monkeypatch.setattr(checkpoint, "_READ_BACK_BYTES", 1000)
    monkeypatch.setattr(checkpoint, "compare", lambda arrays, record: (seen.append(sorted(arrays)), compare(arrays, record)))
    saved.save(1, {"a": jnp.ones(200), "b": jnp.ones(40), "c": jnp.ones(40), "d": jnp.ones(1000), "e": jnp.ones((0, 3))}, {})
    saved.wait()
    assert seen == [["a", "b"], ["c"], ["d"]]


def test_only_checkpoint_and_weights_import_orbax():
    package = Path(checkpoint.__file__).parents[1]
    importers = {path.relative_to(package).parts for path in package.rglob("*.py") if re.search(r"^\s*(from|import) orbax", path.read_text(), re.MULTILINE)}
    assert {parts for parts in importers if parts[0] != "weights"} == {("training", "checkpoint.py")}


def test_orbax_v1_canary(tmp_path: Path):
    """What checkpoint.py assumes of Orbax, so that a new release fails here first and by name."""
    response = ocp.save_async(tmp_path / "7", {"a/b": jnp.arange(4.0)}, custom_metadata={"x": [1, "y", 0.1]})
    assert response.result() is None
    assert names(tmp_path) == ["7"]
    assert ocp.metadata(tmp_path / "7").custom_metadata == {"x": [1, "y", 0.1]}
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[3])
    loaded = ocp.load(tmp_path / "7", {"a/b": jax.ShapeDtypeStruct((4,), jnp.float32, sharding=sharding)})
    assert loaded["a/b"].sharding == sharding
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    with context:
        assert isinstance(ocp.load(tmp_path / "7", {"a/b": np.ndarray})["a/b"], np.ndarray)
    assert ocp.is_orbax_checkpoint(tmp_path / "7")
