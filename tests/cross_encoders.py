"""Cross-encoders of two layers and random weights, and their scores by transformers alone.

Whoever tests with them imports this late: torch and transformers take seconds, and every process of the tests collects all.
"""

from collections.abc import Sequence
from itertools import count
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertForSequenceClassification, BertTokenizer

from service.rerankers.cross_encoder import CrossEncoderReranker

TOKENS = 64  # The longest pair that the model reads.

folders = count(1)


def make_model(folder: Path, words: Sequence[str], *, labels: int = 1, broken: bool = False) -> Path:
    """A cross-encoder in the form that the hub has them in, made in `folder`."""
    torch.manual_seed(4)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=TOKENS,
        initializer_range=0.5,
    )
    config.num_labels = labels
    # Those trained on MS MARCO say this, and mean scores from -11 to 11.
    config.sentence_transformers = {"activation_fn": "torch.nn.modules.linear.Identity", "version": "4.0.0"}
    model = BertForSequenceClassification(config)
    if broken:
        torch.nn.init.constant_(model.classifier.bias, float("nan"))
    made = folder / f"tiny-{next(folders)}"
    model.save_pretrained(made)
    vocab = {word: at for at, word in enumerate(vocabulary)}
    BertTokenizer(vocab=vocab, model_max_length=TOKENS).save_pretrained(made)
    return made


def expected(folder: Path, question: str, passages: Sequence[str]) -> np.ndarray:
    """By transformers alone, one pair at a time."""
    tokenizer = BertTokenizer.from_pretrained(folder)
    model = BertForSequenceClassification.from_pretrained(folder)
    model.eval()  # type: ignore[no-untyped-call]
    scores = []
    for passage in passages:
        # In lists, because an empty passage by itself would count as none.
        pair = tokenizer([question], [passage], truncation=True, max_length=TOKENS, return_tensors="pt")
        with torch.inference_mode():
            scores.append(1 / (1 + np.exp(-float(model(**pair).logits[0, 0]))))
    return np.array(scores)


def open_model(folder: Path, *, searches_waiting: int = 16) -> CrossEncoderReranker:
    return CrossEncoderReranker(str(folder), name="tiny", threads=1, offline=True, searches_waiting=searches_waiting)
