"""SentencePiece models become tokenizer.json: byte-pair and unigram, bytes, control symbols, spaces; damaged files are refused by name."""

import json
import os
import struct
from pathlib import Path

import pytest

from ftjax.data.text.tokenizer import open_tokenizer
from ftjax.errors import WeightsError

TEXTS = ("the cat", " the  cat ", "\n", "\tx", "", " ", "a\n\nb", "caté 日", "</s> the", "thethe cat cat")


def field(number, value):
    """One field of a protocol buffer message."""
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    if isinstance(value, int):
        return varint(number << 3) + varint(value % 2**64)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value):
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def model(kind=2, squeeze=0, fallback=1, pieces=None, bos=1):
    """A small model: control symbols, all bytes, letters and a few merges with falling scores."""
    words = pieces or ["th", "the", "▁the", "ca", "cat", "▁cat", "▁", *"thecaxb"]
    rows = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3), *((f"<0x{byte:02X}>", 0.0, 6) for byte in range(256))]
    rows += [(word, -float(index + 1), 1) for index, word in enumerate(dict.fromkeys(words))]
    body = b"".join(field(1, field(1, text.encode()) + field(2, score) + field(3, type_)) for text, score, type_ in rows)
    trainer = field(3, kind) + field(35, fallback) + field(40, 0) + field(41, bos) + field(42, 2)
    return body + field(2, trainer) + field(3, field(1, b"identity") + field(3, 1) + field(4, squeeze))


def tokens(folder, text, content, special=True):
    (folder / "tokenizer.model").write_bytes(content)
    return open_tokenizer(folder, "here").engine.encode(text, add_special_tokens=special).tokens


def test_pieces_merges_bytes_and_spaces(tmp_path):
    assert tokens(tmp_path, "the cat", model()) == ["<s>", "▁the", "▁cat"]
    assert tokens(tmp_path, "  the", model()) == ["<s>", "▁", "▁", "▁the"]
    assert tokens(tmp_path, "  the  cat\n ", model(squeeze=1), special=False) == ["▁the", "▁cat", "<0x0A>"]
    assert tokens(tmp_path, "bé", model(), special=False) == ["▁", "b", "<0xC3>", "<0xA9>"]
    assert tokens(tmp_path, "", model()) == ["<s>"]
    assert tokens(tmp_path, "the", model(bos=-1)) == ["▁the"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": False, "add_eos_token": True}))
    assert tokens(tmp_path, "the", model()) == ["▁the", "</s>"]
    (tmp_path / "tokenizer_config.json").unlink()
    assert tokens(tmp_path, "the cat", model(kind=1), special=False) == ["▁the", "▁cat"]
    found = open_tokenizer(tmp_path, "here")
    assert found.engine.decode(found.engine.encode("the cat é").ids) == "the cat é"
    found.save(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.model").unlink()
    assert open_tokenizer(tmp_path, "here").engine.encode("the cat é").ids == found.engine.encode("the cat é").ids


def test_one_model_of_another_name_is_found_and_two_are_not(tmp_path):
    (tmp_path / "tok512.model").write_bytes(model())
    assert open_tokenizer(tmp_path, "here").where == str(tmp_path / "tok512.model")
    (tmp_path / "other.model").write_bytes(model())
    with pytest.raises(WeightsError, match=r"here has no tokenizer: allowed are .* and tokenizer.model \(SentencePiece\)"):
        open_tokenizer(tmp_path, "here")
    assert open_tokenizer(tmp_path / "other.model", "here").engine.encode("the", add_special_tokens=False).tokens == ["▁the"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it has no pieces"),
        (b"hello, this is no model", "is no SentencePiece model, or a damaged one"),
        (model()[:-3], "is no SentencePiece model, or a damaged one"),
        (model(kind=4), "a SentencePiece model of type 4; allowed: 1"),
        (model() + field(1, field(1, b"<unk>")), "two of its pieces are the same"),
        (model() + field(2, field(40, 10**6)), "its unknown piece has number 1000000"),
    ],
)
def test_damaged_models_are_refused_by_name(tmp_path, content, message):
    (tmp_path / "tokenizer.model").write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        open_tokenizer(tmp_path, "here")
    assert "tokenizer.model" in str(caught.value)


def test_every_cut_of_a_model_is_refused_or_read(tmp_path):
    """No length of a damaged file ends in another error."""
    whole = model()
    for length in range(0, len(whole), 97):
        (tmp_path / "tokenizer.model").write_bytes(whole[:length])
        try:
            open_tokenizer(tmp_path, "here")
        except WeightsError:
            continue


def llama2_c(path):
    """The rule of llama2.c, written from its description: letters (or bytes), then always the pair whose union has the best score."""
    content = path.read_bytes()
    place, table = 4, []
    while place < len(content):
        score, length = struct.unpack_from("<fi", content, place)
        table.append((content[place + 8 : place + 8 + length].decode(), score))
        place += 8 + length
    ids = {}
    for number, (text, _) in enumerate(table):
        ids.setdefault(text, number)

    def encode(text):
        units = [[ids[letter]] if letter in ids else [byte + 3 for byte in letter.encode()] for letter in (" " + text if text else "")]
        found = [number for unit in units for number in unit]
        while True:
            pairs = [
                (table[ids[joined]][1], -index, ids[joined])
                for index in range(len(found) - 1)
                if (joined := table[found[index]][0] + table[found[index + 1]][0]) in ids
            ]
            if not pairs:
                return found
            _, index, number = max(pairs)
            found[-index : -index + 2] = [number]

    return encode


def test_the_real_tokenizer_cuts_real_text_as_llama2_c_does():
    if "FTJAX_SHARED_DATA" not in os.environ:
        pytest.skip("FTJAX_SHARED_DATA is not set")
    shared = Path(os.environ["FTJAX_SHARED_DATA"])
    engine = open_tokenizer(shared / "weights/stories260K", "stories260K").engine
    encode = llama2_c(shared / "weights/stories260K/tok512.bin")
    plays = (shared / "sft/tinyshakespeare/input.txt").read_text().split("\n")[:1000]
    sums = [json.loads(line)["question"] for line in (shared / "sft/gsm8k/train.jsonl").read_text().split("\n")[:150]]
    texts = [" ".join(text.split(" ")) for text in (*plays, *sums) if "  " not in text and text.strip(" ") == text]
    assert len(texts) > 1000
    assert [engine.encode(text, add_special_tokens=False).ids for text in texts] == [encode(text) for text in texts]


@pytest.mark.parity
def test_the_library_itself_cuts_the_same_way(tmp_path):
    library = pytest.importorskip("sentencepiece")
    for name, content in {"bpe": model(squeeze=1), "bpe_spaces": model(), "unigram": model(kind=1, squeeze=1)}.items():
        path = tmp_path / f"{name}.model"
        path.write_bytes(content)
        theirs, ours = library.SentencePieceProcessor(model_file=str(path)), open_tokenizer(path, name).engine
        for text in TEXTS:
            if "</s>" not in text:  # a control symbol in a text: see the module
                assert ours.encode(text, add_special_tokens=False).ids == theirs.encode(text), (name, text)
