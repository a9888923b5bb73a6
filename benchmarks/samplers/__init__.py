"""What each sampler is worth."""
