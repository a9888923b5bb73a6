"""Who runs where: one run loop over roles in one process or on Ray, with Redis beside them."""
