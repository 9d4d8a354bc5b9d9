"""A folder in which sentence-transformers keeps a mean-pooled BERT: what it declares, and its tokenizer. No runtime yet."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, cast

import orjson
from tokenizers import Tokenizer

from service.embeddings.encoder import Sequenced, encodable

COUNTED = 4_096  # Texts whose tokens are remembered, 4 MB: the chunks of some batches, of each worker's lane.


def read_json(path: Path) -> dict[str, Any]:
    return cast("dict[str, Any]", orjson.loads(path.read_bytes()))


def is_plain_bert(folder: Path) -> bool:
    """Whether the folder is exactly what our encoders compute; anything else belongs to sentence-transformers."""
    files = ["modules.json", "config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"]
    if not all((folder / file).is_file() for file in files):
        return False
    config = read_json(folder / "config.json")
    pooling = read_json(folder / "1_Pooling/config.json")
    modules = [module["type"].rsplit(".", 1)[-1] for module in orjson.loads((folder / "modules.json").read_bytes())]
    modes = [key for key, on in pooling.items() if key.startswith("pooling_mode_") and on]
    limits = folder / "sentence_bert_config.json"
    prompts = folder / "config_sentence_transformers.json"
    return (
        modules in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])
        and (modes == ["pooling_mode_mean_tokens"] or pooling.get("pooling_mode") == "mean")
        and config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and config.get("num_attention_heads", 1) % 2 == 0  # Odd ones have no fast path in TransformerEncoder.
        and not (limits.is_file() and read_json(limits).get("do_lower_case"))
        and not (prompts.is_file() and any(read_json(prompts).get("prompts", {}).values()))
    )


class PlainBert:
    """What the encoders of such a folder have in common: the same names, sizes and token ids, whatever computes."""

    def __init__(self, folder: Path, *, name: str) -> None:
        config = read_json(folder / "config.json")
        limits = folder / "sentence_bert_config.json"
        declared = read_json(limits).get("max_seq_length") if limits.is_file() else None
        self.name = name
        self.dimension: int = config["hidden_size"]
        self.max_tokens: int = declared or config["max_position_embeddings"]
        self._counter = self._open_tokenizer(folder)
        self._tokenizer = self._open_tokenizer(folder)
        self._tokenizer.enable_truncation(self.max_tokens)
        self._counted: OrderedDict[str, list[int]] = OrderedDict()
        self._counting = Lock()

    @staticmethod
    def _open_tokenizer(folder: Path) -> Tokenizer:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    def count_tokens(self, text: str) -> int:
        """Remembers the tokens of what may be embedded next: whoever cuts texts counts each chunk before it is."""
        ids = self._counter.encode(encodable(text)).ids
        if len(ids) <= self.max_tokens:
            with self._counting:
                self._counted[text] = ids
                while len(self._counted) > COUNTED:
                    self._counted.popitem(last=False)
        return len(ids)

    def token_starts(self, text: str) -> Sequence[int]:
        return [start for start, _ in self._counter.encode(encodable(text), add_special_tokens=False).offsets]

    def tokenize(self, texts: Sequence[str]) -> list[Sequenced]:
        with self._counting:
            known = {text: ids for text in texts if (ids := self._counted.pop(text, None)) is not None}
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        encodings = self._tokenizer.encode_batch([encodable(text) for text in missing])
        known |= {text: encoding.ids for text, encoding in zip(missing, encodings, strict=True)}
        return [Sequenced(text, known[text]) for text in texts]
