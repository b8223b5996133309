"""What people call the columns of a table of texts, in the order in which a name is believed."""

from __future__ import annotations

TEXTS = (
    "text",
    "sentence",
    "text_a",
    "sentence1",
    "sentence_1",
    "sentence_a",
    "text1",
    "text_1",
    "premise",
    "anchor",
    "question1",
    "question",
    "query",
    "content",
    "document",
    "review",
    "review_body",
    "reviewtext",
    "comment",
    "comment_text",
    "message",
    "sms",
    "tweet",
    "post",
    "utterance",
    "prompt",
    "input",
    "body",
    "abstract",
    "article",
    "description",
    "headline",
    "title",
    "string",
    "words",
    "tokens",
)
PAIRS = {
    "text": ("text_pair", "text2", "text_b"),
    "sentence": ("sentence_pair", "sentence2"),
    "text_a": ("text_b",),
    "sentence1": ("sentence2",),
    "sentence_1": ("sentence_2",),
    "sentence_a": ("sentence_b",),
    "text1": ("text2",),
    "text_1": ("text_2",),
    "premise": ("hypothesis",),
    "anchor": ("positive",),
    "question1": ("question2",),
    "question": ("sentence", "answer", "passage", "context", "positive"),
    "query": ("passage", "document", "positive", "answer", "response", "title"),
}
"""The first text's column -> the second's."""
LABELS = (
    "label",
    "labels",
    "class",
    "category",
    "target",
    "intent",
    "sentiment",
    "gold_label",
    "entailment_judgment",
    "is_duplicate",
    "emotion",
    "topic",
    "tag",
    "tags",
    "ner_tags",
    "polarity",
    "rating",
    "stars",
    "score",
    "y",
)
SCORES = ("score", "similarity", "similarity_score", "relatedness_score", "rating", "stars", "target", "label", "labels", "value", "y")
TAGS = ("tags", "ner_tags", "labels", "label", "ner")
MULTIPLE = ("labels", "label", "tags", "categories", "topics", "genres", "classes", "emotions")
IDS = ("id", "idx", "guid", "uid", "index", "row_id", "pair_id", "qid", "example_id")


def is_known(name: str) -> bool:
    """Whether a cell reads like the name of a column."""
    return name.strip().strip('"').lower() in _KNOWN


_KNOWN = frozenset((*TEXTS, *(second for seconds in PAIRS.values() for second in seconds), *LABELS, *SCORES, *TAGS, *MULTIPLE, *IDS))
