"""fer-service: finds the faces in an image and tells how likely people would call each expression."""
