"""Pure image work: bytes or arrays in, frozen dataclasses out. Knows no HTTP, no threads, no runtime."""
