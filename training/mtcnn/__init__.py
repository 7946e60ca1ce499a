"""The detector's graphs: MTCNN's three, built from published weights, and the filter that they teach."""
