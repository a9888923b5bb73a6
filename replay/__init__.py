"""The meeting point of actors and learner: prioritized replay without torch and without Ray."""
