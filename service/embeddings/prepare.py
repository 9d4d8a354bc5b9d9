"""Exports the default model into EMBEDDING_CACHE, for an image whose processes cannot write there.

python -m service.embeddings.prepare
"""

import os
from pathlib import Path

from service.embeddings.loading import MINILM, open_encoder

if __name__ == "__main__":
    # The graph of float32 serves bfloat16 too, whatever the processor that builds; that of int8 is made where it is needed.
    open_encoder(MINILM, precision="float32", cache=Path(os.environ["EMBEDDING_CACHE"]))
