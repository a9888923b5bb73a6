"""How fast replay is, beside its peers."""
