"""Presets: YAML files whose settings the command line may override."""
