"""Texts that a model learns to write: conversations, answers, passages and preferences, in tokens of which some are to be learnt.

`collect.py` tells the story; nothing here runs on the device but `LanguagePreprocessing`, which hands a batch's arrays to the model.
"""
