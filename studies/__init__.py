"""What is learned: arms x seeds of the ordinary commands, from YAML to one report."""
