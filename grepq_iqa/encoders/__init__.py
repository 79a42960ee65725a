"""The two encoders, their parts, and what makes them fast to evaluate."""
