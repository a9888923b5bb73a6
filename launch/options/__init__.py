"""What the command lines share: options, their mistakes, and how a command ends."""
