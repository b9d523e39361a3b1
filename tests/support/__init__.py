"""What several test modules need, by noun."""
