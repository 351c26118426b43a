"""Made-up rows for any of our tables: every column filled by its type, some of those that may be empty left so."""

import random
from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Double, LargeBinary, Table

_LETTERS = "abcXYZ019 -_/яЖё漢😀'\"\\%"


def made_up(table: Table, number: int, seed: int = 1) -> dict[str, Any]:
    """The row `number` of `table`: the same for the same seed, and unlike every other one."""
    chance = random.Random(f"{table.name} {number} {seed}")
    return {column.name: _value(column, number, chance) for column in table.columns}


def _value(column: Column[Any], number: int, chance: random.Random) -> Any:
    if column.nullable and chance.random() < 0.3:
        return None
    if isinstance(column.type, Boolean):
        return chance.random() < 0.5
    if isinstance(column.type, BigInteger):
        return number if column.primary_key else chance.choice([0, 1, 2**31, 2**63 - 1, chance.randrange(10**12)])
    if isinstance(column.type, Double):
        return chance.choice([0.0, 1.5, 1.8e9 + chance.random(), 0.1 + 0.2, 5e-324])
    if isinstance(column.type, LargeBinary):
        return number.to_bytes(4, "big") + chance.randbytes(28)
    text = "".join(chance.choice(_LETTERS) for _ in range(chance.randrange(20)))
    return f"{number:08d}{text}"  # several texts must be unlike those of all other rows
