"""What a request's `provider` object says that nobody here follows: fields that are not read, and names that no
provider and no model has. A client must not take a typing error in `ignore` for a promise."""

import re
from collections.abc import Iterator

import msgspec

from xrouter.core.call import Call
from xrouter.core.errors import Invalid
from xrouter.core.preferences import Preferences
from xrouter.gateway.catalog import Catalog

PROVIDER = "provider"
_OBJECT = msgspec.json.Decoder(dict[str, msgspec.Raw])
_LISTS = ("order", "only", "ignore")
_MOST = 16
_LONGEST = 100
_UNFIT = re.compile(r"[^A-Za-z0-9._/:@+-]")  # for a header, where names are divided by commas


def check(wishes: Preferences, catalog: Catalog) -> None:
    """Raises `Invalid` for the first name that nobody has. For strict requests."""
    for field, name in _nobodys(wishes, catalog):
        raise Invalid(
            f"provider.{field}: no provider and no model is called '{name[:_LONGEST]}'. Leave it out, or do not be "
            "strict.",
            code="unsupported_parameter",
            param=f"provider.{field}",
        )


def told(call: Call, dropped: tuple[str, ...], catalog: Catalog) -> list[str]:
    """What the client is told as dropped: `dropped` is the vendor's part, in which `provider` becomes its fields that
    are not followed (`provider.quantizations`), then the names that nobody has (`provider.ignore=gigachta`)."""
    found = [name for name in dropped if name != PROVIDER]
    if len(found) < len(dropped):
        rest = _OBJECT.decode(call.request.fields[PROVIDER])
        found += [f"provider.{_fit(name)}" for name in [*rest][:_MOST]]
    if call.preferences is not None:
        nobodys = [f"provider.{field}={_fit(name)}" for field, name in _nobodys(call.preferences, catalog)]
        found += nobodys[:_MOST]
    return found


def _nobodys(wishes: Preferences, catalog: Catalog) -> Iterator[tuple[str, str]]:
    """The list and the name, as the client wrote it."""
    each = [(field, name) for field in _LISTS for name in getattr(wishes, field)]
    if each:
        unknown = catalog.unknown(name.lower() for _, name in each)
        yield from ((field, name) for field, name in each if name.lower() in unknown)


def _fit(name: str) -> str:
    return _UNFIT.sub("?", name[:_LONGEST])
