"""What happens to checkpoints when things go wrong: killed processes, rotten bits, half a folder, a full disk."""

import gc
import os
import random
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ftjax.errors import CheckpointError
from ftjax.training.checkpoint import Checkpoints

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
"""Orbax leaves coroutines and callbacks behind when a file cannot be read; Python says so when it collects them, perhaps in the test after."""


@pytest.fixture(autouse=True)
def collected() -> Iterator[None]:
    """What Orbax left behind is collected here, not in another file's test."""
    yield
    gc.collect()


CHILD = textwrap.dedent(
    """
    import sys
    import jax
    import numpy as np
    from ftjax.training.checkpoint import Checkpoints

    def make(step):
        return {"a": jax.numpy.asarray(np.random.default_rng(step).normal(size=(400, 400)), "float32"), "step": jax.numpy.int32(step)}

    def agrees(restored):
        return all(np.asarray(restored.tree[name]).tobytes() == np.asarray(leaf).tobytes() for name, leaf in make(restored.step).items())

    checkpoints = Checkpoints(sys.argv[1])
    restored, best = checkpoints.restore(make(0)), checkpoints.restore_best(make(0))
    assert restored is None or agrees(restored)
    assert best is None or agrees(best)
    step = restored.step if restored else 0
    soup = restored.info["soup"] if restored else []
    assert all(agrees(checkpoints.restore_soup(kept, make(0))) for kept in soup)
    print("restored", step, best.step if best else 0, len(restored.skipped) if restored else 0, flush=True)
    while True:
        step += 1
        if step % 3 == 0:
            checkpoints.save_best(step, make(step), {})
        if step % 2:
            checkpoints.save_soup(step, make(step), {}, soup)
            soup = [step]
        checkpoints.save(step, make(step), {"step": step, "soup": soup})
        if step % 2:
            checkpoints.wait()
        if checkpoints.last_step is not None:
            print("saved", checkpoints.last_step, flush=True)
    """
)


def words(said: Path, kind: str) -> list[list[int]]:
    """The numbers of every whole line of this kind that the child has written."""
    lines = said.read_text().split("\n")[:-1]
    return [[int(word) for word in line.split()[1:]] for line in lines if line.startswith(kind)]


def run_and_kill(folder: Path, said: Path, saves: int, seconds: float) -> tuple[list[int], int]:
    """Start the child and SIGKILL it `seconds` after it has reported `saves`; what it restored, and the last step that it reported saved."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
    with said.open("w") as out:
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)], stdout=out, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        while child.poll() is None and not (words(said, "restored") and len(words(said, "saved")) >= saves):
            time.sleep(0.002)
        time.sleep(seconds)
    finally:
        child.kill()
        _, complaint = child.communicate()
    assert child.returncode == -signal.SIGKILL, complaint
    restored = words(said, "restored")[0]
    return restored, max((step for (step,) in words(said, "saved")), default=restored[0])


@pytest.mark.slow
def test_kill_mid_save(tmp_path: Path):
    """Twelve runs in the same folder, each killed at a random moment of saving: the next one always continues from what was reported saved."""
    rng = random.Random(0)
    reported = best = 0
    for trial in range(12):
        restored, said = run_and_kill(tmp_path / "run", tmp_path / "said", trial % 4, rng.uniform(0, 0.3))
        assert restored[0] >= reported
        assert restored[1] >= best
        assert restored[2] == 0
        reported, best = said, restored[1]
    final = Checkpoints(tmp_path / "run")
    restored = final.restore({"a": jax.ShapeDtypeStruct((400, 400), jnp.float32), "step": jax.ShapeDtypeStruct((), jnp.int32)})
    final.close()
    assert restored.step >= reported >= 12


def make(step: int) -> dict[str, jax.Array]:
    return {"kernel": jax.random.normal(jax.random.PRNGKey(step), (40, 30)), "bias": jnp.arange(30.0) * step, "count": jnp.int32(step)}


def save_steps(folder: Path, steps: list[int]) -> None:
    checkpoints = Checkpoints(folder, keep=len(steps))
    for step in steps:
        checkpoints.save(step, make(step), {"step": step})
    checkpoints.close()


def restore(folder: Path):
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.restore(make(0))
    finally:
        checkpoints.close()


def assert_is_step(restored, step: int) -> None:
    assert restored.step == step
    assert restored.info == {"step": step}
    for name, leaf in make(step).items():
        assert np.asarray(restored.tree[name]).tobytes() == np.asarray(leaf).tobytes()


def flip_bit(path: Path, rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def test_bitflip_refused(tmp_path: Path):
    """One bit of one file of the newest step flips, 40 times over: what is restored is always what was saved, or the older step."""
    save_steps(tmp_path / "good", [10, 20])
    rng, walked = random.Random(1), 0
    for _ in range(40):
        shutil.copytree(tmp_path / "good", tmp_path / "rotten")
        files = [path for path in (tmp_path / "rotten/last/20").rglob("*") if path.is_file() and path.stat().st_size]
        arrays = [path for path in files if path.parent.name == "d"]
        flip_bit(rng.choice(arrays if rng.random() < 0.7 else files), rng)
        restored = restore(tmp_path / "rotten")
        assert_is_step(restored, restored.step)
        if restored.step == 10:
            walked += 1
            assert restored.skipped[0].startswith("step 20: ")
        shutil.rmtree(tmp_path / "rotten")
    assert walked >= 10


def test_a_changed_record_is_seen(tmp_path: Path):
    """Another number in the JSON beside the arrays is damage too."""
    save_steps(tmp_path, [10])
    record = tmp_path / "last/10/_CHECKPOINT_METADATA"
    text = record.read_text()
    assert '"step": 10' in text
    record.write_text(text.replace('"step": 10', '"step": 11'))
    with pytest.raises(CheckpointError, match="step 10: its metadata does not match its checksum"):
        restore(tmp_path)


def test_walk_back(tmp_path: Path):
    """Three damaged steps, each in its own way, are named newest first and the fourth is taken; saving goes on and replaces them."""
    save_steps(tmp_path, [10, 20, 30, 40])
    shutil.rmtree(tmp_path / "last/40/state")
    (tmp_path / "last/30/_CHECKPOINT_METADATA").write_text("{")
    for path in (tmp_path / "last/20").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:-200])
    checkpoints = Checkpoints(tmp_path)
    restored = checkpoints.restore(make(0))
    assert_is_step(restored, 10)
    assert [line.split(":")[0] for line in restored.skipped] == ["step 40", "step 30", "step 20"]
    assert "its arrays cannot be read" in restored.skipped[2]
    checkpoints.save(20, make(20), {"step": 20})
    checkpoints.close()
    assert sorted(path.name for path in (tmp_path / "last").iterdir()) == ["20"]
    assert_is_step(restore(tmp_path), 20)


def test_wrong_contents_are_named(tmp_path: Path):
    """A whole, readable step with the arrays of another one: only the fingerprints can tell."""
    save_steps(tmp_path, [10, 20])
    shutil.rmtree(tmp_path / "last/20/state")
    shutil.copytree(tmp_path / "last/10/state", tmp_path / "last/20/state")
    restored = restore(tmp_path)
    assert_is_step(restored, 10)
    assert restored.skipped == ("step 20: the contents changed since they were saved: bias, count, kernel",)


def test_all_damaged_is_an_error_not_a_fresh_start(tmp_path: Path):
    save_steps(tmp_path, [10])
    shutil.rmtree(tmp_path / "last/10/state")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .*last can be read: step 10: .*; remove the folder to start again"):
        restore(tmp_path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 4 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def noise(step: int, megabytes: float) -> dict[str, jax.Array]:
    """Numbers that do not compress."""
    bits = np.random.default_rng(step).integers(0, 2**32, int(megabytes * 250_000), dtype=np.uint32)
    return {"a": jnp.asarray(bits)}


@pytest.mark.skipif(shutil.which("mount") is None, reason="no mount command")
def test_disk_full(small_disk: Path):
    """The save that does not fit is told with sizes, the step before stays, and a later save that fits works with the same object."""
    checkpoints = Checkpoints(small_disk / "checkpoints")
    checkpoints.save(1, noise(1, 1.5), {})
    checkpoints.wait()
    checkpoints.save(2, noise(2, 3.0), {})
    with pytest.raises(
        CheckpointError, match=r"step 2 was not saved to .*: the disk is full: 3.0 MB needed \(before compression\), 2.\d MB free; kept: step 1$"
    ):
        checkpoints.wait()
    assert sorted(path.name for path in (small_disk / "checkpoints/last").iterdir()) == ["1"]
    restored = checkpoints.restore(noise(1, 1.5))
    assert restored.step == 1
    assert np.array_equal(restored.tree["a"], noise(1, 1.5)["a"])
    checkpoints.save(3, noise(3, 1.5), {})
    checkpoints.close()
    assert sorted(path.name for path in (small_disk / "checkpoints/last").iterdir()) == ["3"]


def test_disk_full_without_a_mount(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same message where no disk can be made small: the error that the writer gives is the system's own text."""
    from ftjax.training import checkpoint

    def full(*_):
        raise OSError(28, os.strerror(28))

    checkpoints = Checkpoints(tmp_path)
    monkeypatch.setattr(checkpoint, "_begin", full)
    with pytest.raises(CheckpointError, match=r"step 2 was not saved to .*: the disk is full: 3.0 MB needed .*; no earlier step was saved$"):
        checkpoints.save(2, noise(2, 3.0), {})
    checkpoints.close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    checkpoints = Checkpoints(tmp_path / "file")
    with pytest.raises(CheckpointError, match=r"step 1 was not saved: .*file/last cannot be written: .*Not a directory"):
        checkpoints.save(1, make(1), {})
    checkpoints.close()
