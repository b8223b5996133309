"""Pretrained weights in and out: open a file, recognise what it holds, plan where every leaf comes from, and only then load.

`open_weights -> recognise -> plan -> LoadPlan.apply`; `save_safetensors` is the way back, `save_hugging_face` the way out to transformers;
`read_peft` and `write_peft` go between a folder of peft and an `AdapterFile`.
Nothing read is ever run.
"""

from ftjax.weights.hf_decoder_saving import carry
from ftjax.weights.hf_saving import save_hugging_face
from ftjax.weights.item_rows import ITEM_TABLES, ItemIds, ItemRows
from ftjax.weights.load_plan import LoadPlan, LoadRow
from ftjax.weights.maps.base import Recognised
from ftjax.weights.opening import builtin_names, open_weights
from ftjax.weights.peft import AdapterFile
from ftjax.weights.peft_prompt import write_prompt
from ftjax.weights.peft_reading import peft_folder, read_peft
from ftjax.weights.peft_writing import PEFT_TASKS, write_peft
from ftjax.weights.planning import plan
from ftjax.weights.recognition import recognise
from ftjax.weights.saving import save_safetensors
from ftjax.weights.source import Source
