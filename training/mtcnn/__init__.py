"""The three MTCNN graphs: built from published weights, compared with an independent run of the cascade."""
