"""The detector's graphs: O-Net with published weights, and what the published cascade teaches.

That is a smaller P-Net and R-Net, and the filter between them.
"""
