"""Checkpoints of a run: `<directory>/last/<step>` (to continue), `best/<step>` (to evaluate) and, where one is asked for, `soup/<step>` (to average).

The only module that knows Orbax, besides the reader of weights. The story of a save of step 60, when step 40 is on disk:

1. The save before it is waited for; if it failed, that is raised now, and 40 is still there. Leftovers of interrupted runs are removed (first save only).
2. Every array is fingerprinted where it lives. From here on nothing the caller does to its buffers matters: Orbax copies them before `save` returns.
3. In the background the arrays are written to `60.orbax-checkpoint-tmp`, then the record (info, fingerprints, versions, its own checksum).
   *Interrupted here: 40 is untouched; the temporary folder is no step, and the next run removes it.*
4. One rename makes it `60`. *Interrupted here: 40 and 60 are both there; the newest is taken, and the next save removes the other.*
5. `60` is read back from the disk and compared with its fingerprints. *A difference: 60 is removed, 40 stays, the next call raises.*
6. Only now 40 goes: renamed to `40.deleted`, then removed. *Interrupted here: a `.deleted` folder is no step either.*

If `60` exists already (a damaged one, or a best one of a future that was abandoned), it steps aside as `60.superseded` before 3,
still restorable, and goes in 6.

`soup` keeps the steps it is told to, the rest goes in 6. Whoever tells it names also those that the newest step of `last` remembers, so that a run which
goes on from there finds every one of them, whatever was saved and let go since; what it replays is saved again.

Restoring believes nothing it has not checked: newest first, the record must match its checksum and every array its fingerprint; what does not is named in
`Restored.skipped` and the next older one is tried. Not promised: that the very last step survives a power cut (renames are not synced).
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import math
import re
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils
from orbax.checkpoint import v1

from ftjax.errors import CheckpointError
from ftjax.training.checkpoint_noise import quiet_orbax, raised_anyway
from ftjax.training.checkpoint_record import (
    DamagedError,
    bytes_of,
    check_base,
    check_fits,
    checksum,
    compare,
    is_full,
    make_record,
    named_arrays,
    parts,
    reason,
    without_base,
)

ocp: Any = v1
"""Orbax's annotations know neither flat dicts of arrays nor plain paths."""

_STEP = re.compile(r"(\d+)(\.superseded)?")
_LEFTOVER = re.compile(r"\d+(\.deleted|\.orbax-checkpoint-tmp.*)")
_READ_BACK_BYTES = 256 * 2**20
"""Bytes that the check of a new step holds in host memory at a time (or one array, if that is larger)."""


@dataclasses.dataclass(frozen=True)
class Restored:
    """What a checkpoint held: arrays in the structure and shardings that were asked for, and the JSON that was saved with them."""

    step: int
    tree: Any
    info: dict[str, Any]
    skipped: tuple[str, ...] = ()
    """Newer steps that are damaged, each with the reason."""


class Checkpoints:
    """The last and the best state of a run, in `directory/last` and `directory/best`, and weights for a soup in `directory/soup`.

    Opening writes nothing, so a reader may open the folder of a run that is still going. One save is in flight at a time; a second waits for the first.

    Args:
      directory: the folder `checkpoints/` of a run; made by the first save.
      keep: how many good steps stay in `last`; `best` keeps one, `soup` those that each save names.
      base: fingerprints, by path, of parameters that are not saved because they never change and can be had elsewhere (the pretrained weights under
        adapters). What is restored has the arrays of the tree that was given in their places, and is refused where the fingerprints have changed.
    """

    def __init__(self, directory: Path | str, *, keep: int = 1, base: Mapping[str, str] | None = None):
        if keep < 1:
            raise CheckpointError(f"keep={keep}: at least one checkpoint has to be kept")
        root = Path(directory).absolute()
        self._base = dict(base or {})
        self._last = _Series(root / "last", keep, self._base, abandons_future=False)
        self._best = _Series(root / "best", 1, self._base, abandons_future=True)
        self._soup = _Series(root / "soup", 1, self._base, abandons_future=True)
        self._background = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._in_flight: concurrent.futures.Future[None] | None = None
        logging.getLogger("absl").addFilter(raised_anyway)

    @property
    def last_step(self) -> int | None:
        """The newest step of `last` that this object has saved completely or restored: where a crash would continue from."""
        return max(self._last.settled, default=None)

    def save(self, step: int, tree: Any, info: Mapping[str, Any]) -> None:
        """Begin to save the whole state after `step` steps; returns once the caller may change or donate its arrays.

        A step that this object has already saved or restored is not saved again: the state is a function of the step.

        Args:
          step: number of completed steps.
          tree: any pytree of jax arrays; PRNG keys as raw uint32 bits.
          info: JSON values that come back with `restore`.

        Raises:
          CheckpointError: an earlier save failed (this one is then not begun), a leaf cannot be stored,
            or `last` holds a good step that is not older and that nobody restored.
        """
        self._save(self._last, step, tree, info)

    def save_best(self, step: int, tree: Any, info: Mapping[str, Any]) -> None:
        """As `save`, for the best state so far; replaces the one before, whatever its step. Raises as `save`."""
        self._save(self._best, step, tree, info)

    def save_soup(self, step: int, tree: Any, info: Mapping[str, Any], keep: Collection[int]) -> None:
        """As `save`, for weights that a soup may be made of; once they are safe, only `step` and the steps of `keep` stay. Raises as `save`."""
        self._save(self._soup, step, tree, info, frozenset(keep))

    def keep_soup(self, steps: Collection[int]) -> None:
        """Wait, then let go of all weights for a soup but these."""
        self.wait()
        if jax.process_index() == 0:
            self._soup.let_go(steps)

    def restore(self, abstract: Any) -> Restored | None:
        """The newest good state of `last`, or None if no step was ever completed.

        Args:
          abstract: a tree like the saved one whose leaves have shape, dtype and sharding (`jax.ShapeDtypeStruct` or arrays);
            without a sharding a leaf goes to the first device. The mesh need not be the one it was saved from. A function of the step gives such a
            tree where the layout of the state changes in the course of the run.

        Raises:
          CheckpointError: the newest readable step is of another model or configuration, or every step is damaged.
        """
        self.wait()
        return self._last.restore(abstract)

    def restore_best(self, abstract: Any) -> Restored | None:
        """As `restore`, for the best state."""
        self.wait()
        return self._best.restore(abstract)

    def restore_soup(self, step: int, abstract: Any) -> Restored | None:
        """As `restore`, for the weights of one step that were kept for a soup."""
        self.wait()
        return self._soup.restore(abstract, step)

    def check(self) -> None:
        """Raise the failure of the save in flight if it has already failed; never waits."""
        if self._in_flight is not None and self._in_flight.done():
            self.wait()

    def wait(self) -> None:
        """Wait until what was begun is on disk and checked.

        Raises:
          CheckpointError: it could not be saved; says why and which step is still there. Raised once, then the next save may be tried.
        """
        pending, self._in_flight = self._in_flight, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """`wait`, and end the background thread. Raises as `wait`."""
        try:
            self.wait()
        finally:
            self._background.shutdown()

    def _save(self, series: _Series, step: int, tree: Any, info: Mapping[str, Any], keep: frozenset[int] | None = None) -> None:
        self.wait()
        _barrier("checkpoint:previous")
        if step in series.settled:
            return
        arrays = without_base(named_arrays(tree), self._base)
        record = make_record(step, arrays, info) | ({"base": self._base} if self._base else {})
        series.make_room(step)
        try:
            response = _begin(series.folder / str(step), arrays, record)
        except Exception as error:
            raise series.failure(step, record, error) from error
        self._in_flight = self._background.submit(series.finish, step, record, response, keep)


class _Series:
    """One folder of steps: `last`, `best` or `soup`."""

    def __init__(self, folder: Path, keep: int, base: Mapping[str, str], *, abandons_future: bool):
        self.folder = folder
        self.base = base
        self.keep = keep
        self.abandons_future = abandons_future
        self.settled: set[int] = set()
        self._damaged: set[Path] = set()
        self._cleaned = False

    def steps(self) -> list[tuple[int, Path]]:
        """What looks like a step, newest first; a superseded one after the one that took its place."""
        if not self.folder.is_dir():
            return []
        found = ((_STEP.fullmatch(path.name), path) for path in self.folder.iterdir())
        return sorted(((int(match[1]), path) for match, path in found if match), key=lambda item: (-item[0], item[1].name))

    def make_room(self, step: int) -> None:
        """Clean up after interrupted runs and see that the name `step` is free."""
        kept = [(other, path) for other, path in self.steps() if other >= step and path not in self._damaged]
        if kept and not self.abandons_future:
            raise CheckpointError(
                f"{self.folder} already holds step {kept[0][0]}, so step {step} is not saved there: restore that one, or give this run a directory of its own"
            )
        _barrier("checkpoint:listed")
        if jax.process_index() == 0:
            try:
                self._clean()
                if (self.folder / str(step)).exists():
                    _replace(self.folder / str(step), self.folder / f"{step}.superseded")
            except OSError as error:
                raise CheckpointError(f"step {step} was not saved: {self.folder} cannot be written: {error}") from error
        _barrier("checkpoint:room")

    def _clean(self) -> None:
        """Remove what interrupted saves and deletions left; only the first save does, when this run is known to be the writer."""
        if self._cleaned:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        for path in list(self.folder.iterdir()):
            if _LEFTOVER.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)
            elif path.name.endswith(".superseded") and not path.with_suffix("").exists():
                path.rename(path.with_suffix(""))
        self._cleaned = True

    def finish(self, step: int, record: dict[str, Any], response: Any, keep: frozenset[int] | None) -> None:
        """In the background: wait for the write, check what is on disk, and only then let older steps go."""
        path = self.folder / str(step)
        try:
            response.result()
            _read_back(path, record)
        except Exception as error:
            raise self.failure(step, record, error) from error
        self.settled.add(step)
        self._damaged.discard(path)
        if jax.process_index() == 0:
            self._retain(step, keep)

    def let_go(self, steps: Collection[int]) -> None:
        """Remove every step but these."""
        for step, path in self.steps():
            if step not in steps:
                _remove(path)

    def _retain(self, step: int, keep: frozenset[int] | None) -> None:
        """Keep `step` and the good ones of the others that are named, or the newest up to `self.keep` where none are."""
        good = [path for other, path in self.steps() if other != step and path not in self._damaged and not path.suffix]
        named = good[: self.keep - 1] if keep is None else [path for path in good if int(path.name) in keep]
        keepers = {self.folder / str(step), *named}
        for _, path in self.steps():
            if path not in keepers:
                _remove(path)

    def failure(self, step: int, record: dict[str, Any], error: Exception) -> CheckpointError:
        """What to tell the user about a failed save, after removing what it left so that the space is free again."""
        if jax.process_index() == 0:
            for path in list(self.folder.glob(f"{step}.orbax-checkpoint-tmp*")):
                shutil.rmtree(path, ignore_errors=True)
            if isinstance(error, DamagedError):
                _remove(self.folder / str(step))
        others = [f"step {other}" for other, path in self.steps() if path not in self._damaged]
        kept = f"kept: {others[0]}" if others else "no earlier step was saved"
        if is_full(error):
            needed, free = bytes_of(record), shutil.disk_usage(self.folder).free
            why = f"the disk is full: {needed / 1e6:.1f} MB needed (before compression), {free / 1e6:.1f} MB free"
        else:
            why = reason(error)
        return CheckpointError(f"step {step} was not saved to {self.folder}: {why}; {kept}")

    def restore(self, abstract: Any, only: int | None = None) -> Restored | None:
        """The newest good step that fits, or this one only; see `Checkpoints.restore`."""
        skipped: list[str] = []
        for step, path in self.steps():
            if only not in (None, step):
                continue
            like = abstract(step) if callable(abstract) else abstract
            whole = named_arrays(like)
            wanted = without_base(whole, self.base)
            try:
                with quiet_orbax():
                    record = _read_record(path, step)
                    check_base(path, record.get("base", {}), self.base)
                    check_fits(path, record["arrays"], wanted)
                    arrays = _load(path, record, wanted)
            except DamagedError as error:
                skipped.append(f"step {step}: {error}")
                self._damaged.add(path)
                continue
            self.settled.add(step)
            tree = jax.tree.unflatten(jax.tree.structure(like), [arrays.get(name, leaf) for name, leaf in whole.items()])
            return Restored(step, tree, record["info"], tuple(skipped))
        if skipped:
            hint = "; remove the folder to start again from the pretrained weights" if only is None else ""
            raise CheckpointError(f"no checkpoint in {self.folder} can be read: {'; '.join(skipped)}{hint}")
        return None


def _begin(path: Path, arrays: Mapping[str, jax.Array], record: dict[str, Any]) -> Any:
    """Start the asynchronous write. Empty arrays hold nothing to write (and Orbax refuses them): the record alone brings them back."""
    full = {name: array for name, array in arrays.items() if array.size}
    return ocp.save_async(path, full, custom_metadata={"ftjax": record, "sha256": checksum(record)})


def _read_record(path: Path, step: int) -> dict[str, Any]:
    """The record of a step, or DamagedError."""
    try:
        stored = ocp.metadata(path).custom_metadata
        record, expected = stored["ftjax"], stored["sha256"]
    except Exception as error:
        raise DamagedError(f"its metadata cannot be read ({reason(error)})") from error
    if checksum(record) != expected or record["step"] != step:
        raise DamagedError("its metadata does not match its checksum")
    return record


def _load(path: Path, record: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, jax.Array]:
    """The arrays of a step on the devices that `wanted` asks for, each checked there against its fingerprint, or DamagedError."""
    default = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    abstract = {name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding or default) for name, leaf in wanted.items()}
    try:
        arrays = ocp.load(path, {name: leaf for name, leaf in abstract.items() if math.prod(leaf.shape)})
    except Exception as error:
        if isinstance(error, MemoryError) or "out of memory" in str(error).lower():
            raise
        raise DamagedError(f"its arrays cannot be read ({reason(error)})") from error
    for name, leaf in abstract.items():
        if not math.prod(leaf.shape):
            arrays[name] = jax.device_put(np.zeros(leaf.shape, leaf.dtype), leaf.sharding)
    compare(arrays, record)
    return arrays


def _read_back(path: Path, record: Mapping[str, Any]) -> None:
    """Read a new step from the disk and compare it with what was saved, a part at a time, or raise DamagedError.

    With several processes the record alone is read: an array needs all of them at once, which would meet their training collectives.
    """
    _read_record(path, record["step"])
    if jax.process_count() > 1:
        return
    context = ocp.Context()
    context.pytree.loading.partial_load = True
    with context:
        for names in parts(record, _READ_BACK_BYTES):
            compare(ocp.load(path, dict.fromkeys(names, np.ndarray)), record)


def _replace(source: Path, target: Path) -> None:
    """Rename a folder over another one."""
    if target.exists():
        _remove(target)
    source.rename(target)


def _remove(path: Path) -> None:
    """Delete a step so that no moment shows half of it: out of the list by a rename first."""
    doomed = path.with_name(f"{path.name.split('.')[0]}.deleted")
    shutil.rmtree(doomed, ignore_errors=True)
    if path.exists():
        path.rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def _barrier(name: str) -> None:
    """Let all processes arrive here before any goes on."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
