"""Rules on the stream: which pairs to judge, judging them from stored readings, writing what that amends."""
