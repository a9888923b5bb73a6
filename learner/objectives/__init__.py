"""What is learned: losses, priorities and metrics of a batch."""
