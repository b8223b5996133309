"""Pictures a second from JPEG files to batches of 224 x 224: ours against a torch DataLoader with Pillow and against the bare decoder.

    python benchmarks/throughput.py --data SHARED_DATA --scratch FOLDER [--pictures 2000] [--rounds 5]

Needs the extra `parity` (torch). Every round runs each reader once, one after another, over the same files with two workers; ratios are taken within a
round, and their median counts. The files are the photos of ants and bees at 500 x 375 pixels, mirrored and cut by a few pixels so that no two are alike.
Writes `benchmarks/results/throughput.md` and `.json`.
"""

import argparse
import concurrent.futures
import gc
import json
import os
import platform
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import simplejpeg
import torch.utils.data
from PIL import Image

from ftjax.config import DataConfig
from ftjax.data import ImageFormat, batch_at, train_batches
from ftjax.data.collect import image_split
from ftjax.data.picture_cache import inspect_cached
from ftjax.data.processes import Processes
from ftjax.data.reading import OnDemand, contents_of, images_of
from ftjax.data.sources import read_source

RESULTS = Path(__file__).parent / "results"
IMAGE = ImageFormat((224, 224), "bicubic", 0.875)
WORKERS, BATCH = 2, 32
MAX_PIXELS = 50_000_000


def write_photos(shared: Path, folder: Path, count: int) -> list[str]:
    """So many different JPEG files of 500 x 375 pixels, quality 90, in two classes."""
    sources = sorted((shared / "images" / "ants_bees").rglob("*.jpg"))
    files = []
    for number in range(count):
        path = folder / ("ants" if number % 2 else "bees") / f"{number:05d}.jpg"
        files.append(str(path))
        if path.exists():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(sources[number % len(sources)]) as picture:
            turn = number // len(sources)
            picture = picture.convert("RGB").resize((510, 385)).crop((turn % 10, turn // 10 % 10, turn % 10 + 500, turn // 10 % 10 + 375))
            (picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if turn % 2 else picture).save(path, quality=90)
    return files


def bare(path: str) -> np.ndarray:
    """The least that has to be done for a picture: its bytes, the decoder, the same resize and cut."""
    return IMAGE.fit(simplejpeg.decode_jpeg(Path(path).read_bytes(), "RGB", strict=True))


def bare_many(paths: list[str]) -> int:
    return sum(bare(path).shape[0] > 0 for path in paths)


class Photos(torch.utils.data.Dataset):
    """What a DataLoader without torchvision reads: Pillow's decoder, the same resize and cut."""

    def __init__(self, files: list[str]) -> None:
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, row: int) -> tuple[np.ndarray, int]:
        with Image.open(self.files[row]) as picture:
            return IMAGE.fit(np.asarray(picture.convert("RGB"))), row % 2


def collate(rows: list) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(np.stack([pixels for pixels, _ in rows])), torch.tensor([label for _, label in rows])


def readers(files: list[str], root: Path, cache: Path) -> dict:
    """name -> a function that reads every picture once."""
    rows = read_source(DataConfig(source="image_folder", path=str(root)))
    order = np.arange(len(rows))
    steps = len(rows) // BATCH
    contents = contents_of(rows, workers=WORKERS)[0]
    demanded = image_split(rows.ids, rows.labels, OnDemand(rows, IMAGE, MAX_PIXELS, order, contents=contents))
    elsewhere = image_split(rows.ids, rows.labels, OnDemand(rows, IMAGE, MAX_PIXELS, order, contents=contents, processes=Processes(WORKERS)))
    inspection, _ = inspect_cached(rows, IMAGE, cache, max_pixels=MAX_PIXELS, cache_megabytes=0, workers=WORKERS)
    kept = image_split(rows.ids, rows.labels, images_of(rows, inspection, order, IMAGE, MAX_PIXELS))
    assert all(np.array_equal(first, second) for first, second in zip(batch_at(demanded, 0, BATCH, 0).values(), batch_at(kept, 0, BATCH, 0).values()))
    threads = concurrent.futures.ThreadPoolExecutor(WORKERS)
    processes = concurrent.futures.ProcessPoolExecutor(WORKERS)
    parts = [files[start :: 8 * WORKERS] for start in range(8 * WORKERS)]
    list(processes.map(bare_many, [files[:2]] * WORKERS))
    loader = torch.utils.data.DataLoader(Photos(files), batch_size=BATCH, shuffle=True, num_workers=WORKERS, collate_fn=collate, persistent_workers=True)
    sum(1 for _ in torch.utils.data.DataLoader(Photos(files[:BATCH]), batch_size=BATCH, num_workers=WORKERS, collate_fn=collate))
    iterator = iter(loader)  # starts the workers, outside of what is timed
    del iterator

    def ours(split) -> int:
        return sum(len(batch["id"]) for batch in train_batches(split, BATCH, 0, 0, steps, WORKERS))

    return {
        "bare decoder, 2 threads": lambda: sum(1 for _ in threads.map(bare, files)),
        "bare decoder, 2 processes": lambda: sum(processes.map(bare_many, parts)),
        "ftjax, decoding": lambda: ours(demanded),
        "ftjax, decoding in processes": lambda: ours(elsewhere),
        "ftjax, from the cache": lambda: ours(kept),
        "torch DataLoader, Pillow": lambda: sum(len(labels) for _, labels in loader),
    }


def processor_time(files: list[str], root: Path, repeats: int = 5) -> dict[str, list[float]]:
    """Milliseconds of processor time a picture, of all threads together: other work beside it hardly changes it, unlike pictures a second."""
    rows = read_source(DataConfig(source="image_folder", path=str(root)))
    images = OnDemand(rows, IMAGE, MAX_PIXELS, np.arange(len(rows)), contents=contents_of(rows, workers=WORKERS)[0])
    demanded = image_split(rows.ids, rows.labels, images)
    steps, photos = len(rows) // BATCH, Photos(files)
    ways = {
        "bare decoder": lambda: sum(bare(path).shape[0] > 0 for path in files),
        "ftjax, decoding": lambda: sum(len(batch["id"]) for batch in train_batches(demanded, BATCH, 0, 0, steps, WORKERS)),
        "Pillow, as the DataLoader's workers read": lambda: sum(photos[row][0].shape[0] > 0 for row in range(len(files))),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, read in ways.items():
            began = time.process_time()
            count = read()
            found[name].append(1e3 * (time.process_time() - began) / count)
    return found


def collecting(root: Path, cache: Path) -> dict[str, float]:
    """Pictures a second of the pass before training, which decodes all and fills the cache, and of the same pass once it is full."""
    rows = read_source(DataConfig(source="image_folder", path=str(root)))
    rates = {}
    for name in ("collecting, empty cache", "collecting, full cache"):
        began = time.perf_counter()
        inspect_cached(rows, IMAGE, cache, max_pixels=MAX_PIXELS, cache_megabytes=0, workers=WORKERS, near=True)
        rates[name] = len(rows) / (time.perf_counter() - began)
    return rates


def measure(functions: dict, rounds: int) -> list[dict[str, float]]:
    """Pictures a second of each reader in each round; the order turns from round to round. The first round warms up and does not count."""
    found, names = [], list(functions)
    for number in range(rounds + 1):
        rates = {}
        for name in names[number % len(names) :] + names[: number % len(names)]:
            gc.collect()
            began = time.perf_counter()
            count = functions[name]()
            rates[name] = count / (time.perf_counter() - began)
        found.append({name: rates[name] for name in names} | {"load": os.getloadavg()[0]})
        print(number, {name: round(rate, 1) for name, rate in found[-1].items()}, flush=True)
    return found[1:]


RATIOS = {
    "ours / DataLoader": ("ftjax, decoding", "torch DataLoader, Pillow", 1.5),
    "ours / bare decoder, 2 threads": ("ftjax, decoding", "bare decoder, 2 threads", 0.8),
    "ours / bare decoder, 2 processes": ("ftjax, decoding", "bare decoder, 2 processes", 0.8),
    "ours in processes / ours": ("ftjax, decoding in processes", "ftjax, decoding", None),
    "second epoch (cache) / first (decoding)": ("ftjax, from the cache", "ftjax, decoding", 5.0),
}


def summary(rounds: list[dict[str, float]]) -> dict[str, dict[str, float | None]]:
    """Median, smallest and largest ratio over the rounds."""
    found = {}
    for name, (above, below, goal) in RATIOS.items():
        values = [one[above] / one[below] for one in rounds]
        found[name] = {"median": float(np.median(values)), "min": min(values), "max": max(values), "goal": goal}
    return found


def table(result: dict) -> str:
    rates = {name: [one[name] for one in result["rounds"]] for name in result["rounds"][0] if name != "load"}
    loads = [one["load"] for one in result["rounds"]]
    processor = result["processor_milliseconds"]
    ours = np.median(processor["ftjax, decoding"])
    lines = [
        "# Throughput of the picture path",
        "",
        f"`python benchmarks/throughput.py`: {result['pictures']} JPEG files of 500 x 375 pixels, resized and cut to 224 x 224 (bicubic), batches of {BATCH},",
        f"{WORKERS} workers, {len(rates['ftjax, decoding'])} rounds in which every reader runs once. Ratios are taken within a round.",
        "",
        "| reader | pictures a second, median (min to max) |",
        "|---|---|",
        *(f"| {name} | {np.median(values):,.0f} ({min(values):,.0f} to {max(values):,.0f}) |" for name, values in rates.items()),
        *(f"| {name}, once | {value:,.0f} |" for name, value in result["collecting"].items()),
        "",
        "Processor time a picture says the same of the code alone, whatever else the machine does:",
        "",
        "| reader | milliseconds, median (min to max) | rate of ours to its rate |",
        "|---|---|---|",
        *(
            f"| {name} | {np.median(values):.2f} ({min(values):.2f} to {max(values):.2f}) | {np.median(values) / ours:.2f} |"
            for name, values in processor.items()
        ),
        "",
        "| ratio | median (min to max) | goal |",
        "|---|---|---|",
        *(f"| {name} | {one['median']:.2f} ({one['min']:.2f} to {one['max']:.2f}) | {one['goal'] or ''} |" for name, one in result["ratios"].items()),
        "",
        f"Load of the machine ({os.cpu_count()} cores) during the rounds: {min(loads):.1f} to {max(loads):.1f}"
        + (
            "; other work ran beside it, and a busy machine gives more to whoever has more threads ready: ratios of pictures a second may flatter."
            if max(loads) > 4
            else "."
        ),
        "Versions: " + ", ".join(f"{name} {value}" for name, value in result["versions"].items()) + ".",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    root = arguments.scratch / f"photos_{arguments.pictures}"
    files = write_photos(arguments.data, root, arguments.pictures)
    stamp = f"{time.time_ns()}"
    collected = collecting(root, arguments.scratch / f"cache_{stamp}_near")
    rounds = measure(readers(files, root, arguments.scratch / f"cache_{stamp}"), arguments.rounds)
    processor = processor_time(files, root)
    versions = {"python": platform.python_version()} | {name: version(name) for name in ("numpy", "simplejpeg", "pillow", "grain", "torch")}
    result = {
        "pictures": len(files),
        "rounds": rounds,
        "collecting": collected,
        "ratios": summary(rounds),
        "versions": versions,
        "processor_milliseconds": processor,
    }
    arguments.output.mkdir(exist_ok=True)
    (arguments.output / "throughput.json").write_text(json.dumps(result, indent=1) + "\n")
    (arguments.output / "throughput.md").write_text(table(result))


if __name__ == "__main__":
    main()
