"""A group, cut into what fits at once: micro-populations of a grid, or the slots of a search. What is done is never done again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ftjax import files
from ftjax.ablation.grouping import Group
from ftjax.ablation.halving import run_search
from ftjax.ablation.kit import Kit
from ftjax.ablation.memory import limit
from ftjax.ablation.running import Edges, Options, run_part


def run_group(group: Group, options: Options, edges: Edges) -> list[dict[str, Any]]:
    """Train and test every member of a group.

    Returns:
      A result for each member, in order of their numbers.

    Raises:
      Stopped: `edges.stop` was set; everything is saved.
      FtjaxError: see `Checkpoints`, or nothing fits into the memory.
    """
    kit = Kit(group, options.spread, options.together)
    folder = edges.folder / "groups" / group.name
    slots = _slots(kit, folder, options, edges)
    if edges.search.kind == "halving":
        edges.tell(f"group {group.name}: {len(group.members)} members search in {slots} slots")
        return _once(folder / "part_00", lambda: run_search(kit, edges.search, slots, folder / "part_00", edges))
    parts = [list(group.members[start : start + slots]) for start in range(0, len(group.members), slots)]
    edges.tell(f"group {group.name}: {len(group.members)} members, {slots} at once" + (f", in {len(parts)} parts" if len(parts) > 1 else ""))
    results: list[dict[str, Any]] = []
    for number, part in enumerate(parts):
        results += _once(folder / f"part_{number:02d}", lambda part=part, at=folder / f"part_{number:02d}": run_part(kit, part, slots, at, edges))
    return results


def _slots(kit: Kit, folder: Path, options: Options, edges: Edges) -> int:
    """Members at once; a group that has begun keeps its number, for its parts are cut by it."""
    path = folder / "parts.json"
    if path.exists():
        return kit.spread.whole(files.read_json(path)["slots"])
    slots = kit.most_members(limit(options.memory))
    if edges.search.kind == "halving":
        # Fewer slots than trials, or nobody would ever move in.
        seeds = len({one.member.seed for one in kit.group.members})
        slots = min(slots, kit.spread.whole(max(seeds, -(-len(kit.group.members) // edges.search.eta))))
    files.write_json(path, {"slots": slots, "members": len(kit.group.members), "devices": len(kit.spread.devices)})
    return slots


def _once(folder: Path, run: Callable[[], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The results in a folder, or those of `run`, kept there."""
    done = folder / "members.json"
    if not done.exists():
        files.write_json(done, run())
    return files.read_json(done)
