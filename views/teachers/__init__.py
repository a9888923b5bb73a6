"""What launch/zoo.py does with teachers, and what a run checks of its own."""
