"""What a run keeps in Redis: its server, its keys, and the weights on their way."""
