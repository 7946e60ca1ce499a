"""The detector's graphs: O-Net with published weights and a second opinion, and what the cascade teaches.

That is a smaller P-Net and R-Net, and the filter between them.
"""
