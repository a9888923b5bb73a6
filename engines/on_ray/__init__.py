"""A run on Ray: every role a process, started, watched and replaced."""
