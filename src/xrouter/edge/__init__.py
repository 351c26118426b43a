"""The door: what a request must look like before anything else sees it. Plain ASGI, no framework."""
