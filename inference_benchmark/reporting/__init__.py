"""What a session leaves behind: the card, the tables, the result file, and comparisons of them."""
