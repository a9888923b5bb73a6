"""Launching: the only package that knows processes, Ray, Redis and the command line."""
