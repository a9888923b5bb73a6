"""Students in formats that need nothing of this project to run."""
