"""tantivy: what a search library with block-max WAND does for BM25, its index in memory, stems and stored texts."""

import re
from typing import Any

import tantivy

from bench.peers.inside.answering import Given, serve

WORD = re.compile(r"\w+")


class Words:
    def __init__(self, given: Given, _address: str) -> None:
        self.given = given

    def load(self) -> dict[str, Any]:
        schema = tantivy.SchemaBuilder()
        schema.add_text_field("id", stored=True, tokenizer_name="raw")
        schema.add_text_field("text", stored=True, tokenizer_name="en_stem")
        self.index = tantivy.Index(schema.build())
        writer = self.index.writer()
        for name, text in zip(self.given.ids, self.given.texts, strict=True):
            writer.add_document(tantivy.Document(id=[name], text=[text]))
        writer.commit()
        writer.wait_merging_threads()
        self.index.reload()
        self.searcher = self.index.searcher()
        return {"tokenizer": "en_stem", "segments": self.searcher.num_segments}

    def search(self, query: int, *, limit: int, effort: int | None) -> list[str]:  # noqa: ARG002 - it is exact
        # What a query parser takes for syntax is left out; words are joined by OR.
        asked = self.index.parse_query(" ".join(WORD.findall(self.given.queries[query])), ["text"])
        found = [self.searcher.doc(address) for _, address in self.searcher.search(asked, limit).hits]
        return [document["id"][0] for document in found if document["text"]]


serve(Words)
