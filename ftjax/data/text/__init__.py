"""Texts: files -> columns -> labels -> splits -> tokens on the host, then batches of a few fixed lengths.

Cutting into tokens is the Rust library `tokenizers`; nothing here runs on the device but `TextPreprocessing`, which hands a batch's arrays to the model.
"""
