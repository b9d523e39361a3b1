"""A terminal as the display uses it: a screen with moving lines, other people's output, prompts and forks."""
