"""Client dialects: bytes in, core words through the pipeline, bytes out. They know nothing behind it."""
