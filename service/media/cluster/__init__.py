"""The same work on a Ray cluster: `--ray ADDRESS`. Nothing outside this folder imports Ray for it.

Every node needs this package, and sees photos, films and output under the same paths or URIs.
"""
