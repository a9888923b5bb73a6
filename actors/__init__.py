"""Acting: one game and a vector of environments per actor, and the evaluator."""
