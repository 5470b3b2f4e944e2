"""A tokenizer of whole words for the small model of train.py: what tasks.vocabulary() lists, and <pad>, <unk>, <eos>."""

import json
import pathlib

import tasks

PAD, UNK, EOS = 0, 1, 2


class WordTokenizer:
    """Has of Hugging Face's tokenizers what run.py uses: call, decode, and the ids of its special tokens."""

    pad_token_id, eos_token_id = PAD, EOS

    def __init__(self, words):
        self.words = ["<pad>", "<unk>", "<eos>", *words]
        self.ids = {word: i for i, word in enumerate(self.words)}

    def __len__(self):
        return len(self.words)

    def encode(self, text):
        return [self.ids.get(word, UNK) for word in tasks.split(text)]

    def decode(self, ids):
        return " ".join(self.words[i] for i in ids if i not in (PAD, EOS))

    def save(self, folder):
        (pathlib.Path(folder) / "words.json").write_text(json.dumps(self.words[3:]))


def load_tokenizer(folder):
    """Of a model's folder: its words.json, else what transformers finds there."""
    path = pathlib.Path(folder) / "words.json"
    if path.exists():
        return WordTokenizer(json.loads(path.read_text()))
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, local_files_only=True)
