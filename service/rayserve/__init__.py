"""The service on Ray Serve: `app.py` is what a replica runs, `proxy.py` what stands before the replicas."""
