"""`xrouter doctor`: one check after another, each failure in words with its mend."""
