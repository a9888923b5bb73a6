"""Who may insert and draw, and when."""
