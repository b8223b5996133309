"""How many members fit at once: XLA says what the compiled step takes, and the population is cut into micro-populations that stay below a limit."""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import jax

from ftjax.errors import ConfigError

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}
_SHARE = 0.8
"""Of what a device has: the rest is for evaluation and what is between."""


def parse_bytes(text: str) -> int:
    """Bytes of `"6GB"`, `"500 MB"` or `"2GiB"`.

    Raises:
      ConfigError: no such form.

    >>> parse_bytes("6GB"), parse_bytes("1.5 MiB")
    (6000000000, 1572864)
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKmMgG]?i?[bB]?)\s*", text)
    unit = found[2].upper() if found else ""
    unit = unit + "B" if unit and not unit.endswith("B") else unit
    if found is None or (unit not in _UNITS and unit != "B") or not float(found[1]):
        raise ConfigError(f"--memory {text!r} is no size; write 6GB, 500MB or 2GiB")
    return int(float(found[1]) * _UNITS.get(unit, 1))


def limit(asked: int | None) -> int:
    """Bytes that a population may take on one device: what was asked for, or most of what the device has (on a CPU of what is free, shared by all of them)."""
    if asked is not None:
        return asked
    device = jax.devices()[0]
    known = (device.memory_stats() or {}).get("bytes_limit") if device.platform != "cpu" else None
    if known:
        return int(_SHARE * known)
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(_SHARE * free / len(jax.devices()))


def most_members(wanted: int, devices: int, bytes_of: Callable[[int], int | None], allowed: int) -> int:
    """Members at once, a multiple of the devices: all that are wanted, or as many as the limit allows, in parts of about one size.

    Two sizes tell what a member takes (the bytes are nearly linear in their number); what is chosen is measured again and made smaller until it fits.

    Args:
      wanted: members in all.
      devices: that they are spread over.
      bytes_of: what a population of so many takes on one device; None: the backend does not say, and all are taken at once.
      allowed: bytes on one device.

    Raises:
      ConfigError: one member for each device is too many.
    """
    size = _whole(wanted, devices)
    taken = bytes_of(size)
    if taken is None or taken <= allowed:
        return size
    least = bytes_of(devices)
    if least is None or least > allowed:
        raise ConfigError(
            f"one member takes {_shown(least or 0)} on a device and --memory allows {_shown(allowed)}; allow more, or use a smaller batch or model"
        )
    while size > devices:
        slope = max((taken - least) / (size - devices), 1.0)
        size = min(size - devices, devices + int((allowed - least) / slope) // devices * devices)
        size = _whole(-(-wanted // -(-wanted // max(size, devices))), devices) if size > devices else devices
        taken = bytes_of(size)
        if taken is None or taken <= allowed:
            return size
    return devices


def _whole(members: int, devices: int) -> int:
    return -(-members // devices) * devices


def _shown(size: int) -> str:
    return f"{size / 1e9:.3g} GB" if size >= 1e8 else f"{size / 1e6:.3g} MB"
