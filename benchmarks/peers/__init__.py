"""Other projects' detectors, each run in an environment of its own."""
