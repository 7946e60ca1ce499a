"""What hostile input does to a real service: `make fuzz`."""
