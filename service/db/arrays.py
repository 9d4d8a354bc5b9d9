"""Many rows in one parameter a column."""

from typing import Any

from sqlalchemy import ARRAY, BindParameter, TableValuedAlias, bindparam, func
from sqlalchemy.types import TypeEngine


def rows_of(name: str, **columns: tuple[str, type[TypeEngine[Any]]]) -> TableValuedAlias:
    """A table made of arrays: one parameter a column, one round trip however many rows. COPY is refused under row security."""
    arrays: list[BindParameter[Any]] = [bindparam(parameter, type_=ARRAY(kind)) for parameter, kind in columns.values()]
    return func.unnest(*arrays).table_valued(*columns, name=name).render_derived()
