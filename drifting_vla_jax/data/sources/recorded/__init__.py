"""What sources of episodes that others recorded share: the mapping language, cameras, rates, conversion."""
