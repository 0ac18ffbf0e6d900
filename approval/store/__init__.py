"""What is kept, and how: the only room that knows SQL."""
