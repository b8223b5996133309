"""Prepare a small tensorflow-datasets data set offline, with tensorflow-datasets itself and without TensorFlow.

    python scripts/build_tfds_example.py --data_dir /tmp/tfds                       the digits of scikit-learn
    python scripts/build_tfds_example.py --data_dir /tmp/tfds --folder PHOTOS       any folder of photos that ftjax can read

Read it with `data.source="tfds"`, `data.path=/tmp/tfds` and the `data.name` that the script prints.
"""

from __future__ import annotations

import argparse
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ftjax.config import DataConfig
from ftjax.data.dataset import Rows
from ftjax.data.sources import read_source


class FtjaxExample(tfds.core.GeneratorBasedBuilder):
    """Images and labels of any of ftjax's own sources."""

    VERSION = tfds.core.Version("1.0.0")

    def __init__(self, *, rows: Rows, **options: Any) -> None:
        self._rows = rows
        super().__init__(**options)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(names=list(self._rows.classes))}
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Built by ftjax from {self._rows.where}.",
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
        del dl_manager  # nothing is downloaded
        return {split: self._generate_examples(split) for split in dict.fromkeys(self._rows.splits)}

    def _generate_examples(self, split: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for row, name in enumerate(self._rows.ids):
            if self._rows.splits[row] == split:
                yield name, {"image": encoded(self._rows.read(row)), "label": self._rows.classes[self._rows.labels[row]]}


def encoded(image: bytes | np.ndarray) -> io.BytesIO:
    """The file's bytes as they are; pixels as PNG."""
    if isinstance(image, bytes):
        return io.BytesIO(image)
    file = io.BytesIO()
    Image.fromarray(image).convert("RGB").save(file, "PNG")
    file.seek(0)
    return file


def build(data_dir: Path, folder: Path | None) -> str:
    """Write the data set and return the name under which tensorflow-datasets finds it in `data_dir`."""
    config = DataConfig(source="image_folder", path=str(folder)) if folder else DataConfig(source="digits")
    name = re.sub(r"\W", "_", folder.resolve().name) if folder else "digits"
    data_dir.mkdir(parents=True, exist_ok=True)
    builder = FtjaxExample(rows=read_source(config), data_dir=data_dir, config=tfds.core.BuilderConfig(name=name), file_format="array_record")
    builder.download_and_prepare()
    for split, info in builder.info.splits.items():
        stored = sum(1 for _ in builder.as_data_source(split=split))
        if stored != info.num_examples:
            raise SystemExit(f"{split}: {info.num_examples} examples were written but {stored} can be read")
    return f"{builder.name}/{name}:{builder.version}"


def main() -> None:
    """Parse the command line, build, and say how to use the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", type=Path, required=True, help="where tensorflow-datasets keeps its data sets")
    parser.add_argument("--folder", type=Path, help="a folder of photos; the default is scikit-learn's digits")
    arguments = parser.parse_args()
    print(build(arguments.data_dir, arguments.folder))


if __name__ == "__main__":
    main()
