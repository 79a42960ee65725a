"""What people look through, keep and hand over: picks of bursts, ratings in sidecars, moves that can be undone."""
