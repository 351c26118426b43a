"""Long campaigns against the whole product: they run small inside `make test` and large in lanes of their own."""
