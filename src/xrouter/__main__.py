"""`python -m xrouter` is `xrouter`."""

from xrouter.cli import main

main()
