"""docs/adding-a-provider.md against the code: its table of symptoms is how an operator finds a kind."""

import re
from pathlib import Path

from xrouter.providers.openai_compatible.rows import Quirks, rows

GUIDE = Path(__file__).parents[2] / "docs" / "adding-a-provider.md"


def test_the_guide_names_every_quirk_and_the_kinds_that_have_it() -> None:
    told = {
        field: set(re.findall(r"`(\w+)`", kinds))
        for field, kinds in re.findall(
            r"^\| .* \| `(\w+)`[^|]*\| ?(.*)\|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE
        )
    }
    plain = Quirks()
    assert told == {
        field: {kind for kind, row in rows().items() if getattr(row, field) != getattr(plain, field)}
        for field in Quirks.__struct_fields__
    }
