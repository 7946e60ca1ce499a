"""Makes what is in `model_store/`: trains, calibrates, exports and measures the graphs. Needs PyTorch."""
