"""What a machine or a cluster would deliver, from costs measured here."""
