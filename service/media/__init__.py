"""Folders of photos, video files and live cameras: what the command line does with more than one image."""
