"""What is trained: configuration, presets, and the roles that they ask for."""
