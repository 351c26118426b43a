"""What this gateway serves: the operator's file, what vendors' environment names add to it, and what is built in."""
