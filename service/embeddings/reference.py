"""Any sentence-transformers model through sentence-transformers itself."""

import re
from collections.abc import Sequence

import numpy as np
from sentence_transformers import SentenceTransformer

from service.embeddings.base import Matrix
from service.embeddings.encoder import Precision, Purpose, Sequenced, encodable
from service.embeddings.precision import torch_dtype

WORD = re.compile(r"\S+")


class ReferenceEncoder:
    """The oracle of the tests and the way of every model that is not a plain BERT: prompts, pooling and all."""

    def __init__(self, model: str, *, name: str, precision: Precision, offline: bool) -> None:
        # bfloat16 is proven for MiniLM only: another model gets it when it is asked for.
        dtype = torch_dtype("float32" if precision == "auto" else precision)
        self._model = SentenceTransformer(model, device="cpu", local_files_only=offline, model_kwargs={"dtype": dtype})
        self.name = name
        self.dimension = int(self._model.get_embedding_dimension() or 0)
        self.max_tokens = int(self._model.max_seq_length or self._model.tokenizer.model_max_length)

    def count_tokens(self, text: str) -> int:
        return len(self._ids([encodable(text)], cut=False)[0])

    def token_starts(self, text: str) -> Sequence[int]:
        tokenizer = self._model.tokenizer
        if not tokenizer.is_fast:  # The few without offsets: as many tokens as the words between them have.
            return [word.start() for word in WORD.finditer(text) for _ in tokenizer.tokenize(encodable(word[0]))]
        encoded = tokenizer(encodable(text), add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return [start for start, _ in encoded["offset_mapping"]]

    def tokenize(self, texts: Sequence[str]) -> list[Sequenced]:
        cleaned = [encodable(text) for text in texts]
        return [Sequenced(text, ids) for text, ids in zip(cleaned, self._ids(cleaned, cut=True), strict=True)]

    def encode(self, batch: Sequence[Sequenced], *, purpose: Purpose) -> Matrix:
        texts = [sequence.text for sequence in batch]
        encode = self._model.encode_query if purpose == "query" else self._model.encode_document
        vectors = encode(texts, batch_size=len(texts), show_progress_bar=False, normalize_embeddings=True)
        return np.asarray(vectors, np.float32)

    def _ids(self, texts: list[str], *, cut: bool) -> list[list[int]]:
        tokenizer = self._model.tokenizer
        ids: list[list[int]] = tokenizer(texts, truncation=cut, max_length=self.max_tokens if cut else None)[
            "input_ids"
        ]
        return ids
