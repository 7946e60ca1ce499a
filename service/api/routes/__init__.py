"""The endpoints; handlers stay short."""
