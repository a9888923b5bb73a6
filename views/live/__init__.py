"""The live page of a run: what it is told, who may change what, and its server."""
