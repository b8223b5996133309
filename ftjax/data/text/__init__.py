"""Texts: files -> columns -> labels -> splits -> tokens on the host, then batches of a few fixed lengths.

Cutting into tokens is the Rust library `tokenizers`; nothing here runs on the device but `TextPreprocessing`, which hands a batch's arrays to the model.
"""

from ftjax.data.text.collect import collect_text
from ftjax.data.text.predict import read_texts, texts_split
from ftjax.data.text.preprocessing import TextPreprocessing
from ftjax.data.text.tokenizer import FILE as TOKENIZER
from ftjax.data.text.tokenizer import Tokenizer, check_vocabulary, open_tokenizer

__all__ = ["TOKENIZER", "TextPreprocessing", "Tokenizer", "check_vocabulary", "collect_text", "open_tokenizer", "read_texts", "texts_split"]
