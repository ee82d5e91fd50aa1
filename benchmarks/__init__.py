"""How fast the program is, always beside the least the machine could do in the same minutes."""
