"""Batches and priorities through memory that two processes share."""
