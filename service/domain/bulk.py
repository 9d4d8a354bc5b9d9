"""A bulk load: documents in such numbers that the index of their vectors is built after them."""

from typing import Literal, TypeAlias

BulkLoad: TypeAlias = Literal["preparing", "deferred", "live"]
"""`preparing`: it is being decided; `deferred`: the index waits for the end of the load; `live`: it is there, and kept."""
