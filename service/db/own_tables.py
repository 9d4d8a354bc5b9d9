"""The tables of your own that a filter may name: docs/howto/filter-by-your-own-table.md."""

from service.db.joined import JoinedTable

JOINED: tuple[JoinedTable, ...] = ()
