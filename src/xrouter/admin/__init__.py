"""The control plane: keys, the books and the health of a worker, over HTTP."""
