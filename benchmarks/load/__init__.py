"""What the service does under load, measured on a real server process: `python -m benchmarks.load`."""
