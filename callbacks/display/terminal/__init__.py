"""A terminal as the display uses it: a screen with moving lines, the output of other code, prompts and forks."""
