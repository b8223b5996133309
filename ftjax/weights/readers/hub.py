"""`hf://owner/name`: a snapshot of a Hugging Face repository, fetched or taken from the cache."""

from __future__ import annotations

import re
from pathlib import Path

from ftjax.errors import WeightsError

TEXT = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.*", "merges.txt", "modules.json", "1_Pooling/config.json")
WANTED = ("*.safetensors", "*.safetensors.index.json", "*.npz", "*.msgpack", "config.json", "adapter_config.json", "preprocessor_config.json", *TEXT)
"""Never pickles: a repository that has only those is refused as one without weights."""


def download(name: str) -> Path:
    """The local folder of `owner/name` or `owner/name@revision`.

    Raises:
      WeightsError: the name is malformed, or the repository can be neither reached nor found in the cache.
    """
    import huggingface_hub  # a second to import, and only needed here

    if not re.fullmatch(r"\w[\w.-]*/\w[\w.-]*(@\w[\w./-]*)?", name):
        raise WeightsError(f"hf://{name}: write hf://owner/name or hf://owner/name@revision")
    repository, _, revision = name.partition("@")
    try:
        return Path(huggingface_hub.snapshot_download(repository, revision=revision or None, allow_patterns=list(WANTED)))
    except Exception as error:  # the hub, its HTTP client and the file system each raise their own kinds
        raise WeightsError(
            f"hf://{name}: tried to fetch {', '.join(WANTED)} of {repository} from {huggingface_hub.constants.ENDPOINT} and failed "
            f"({type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}). Offline? Fetch it where there is a network "
            f"(`hf download {repository} --local-dir DIR`) and give the local directory instead"
        ) from None
