"""Learning: losses, optimizers and the loop that turns replayed batches into a student.

Knows neither Ray nor Redis, and never imports `actors`: the two meet in `replay` (data) and in
`networks.weights` (parameters).
"""
