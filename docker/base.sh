#!/bin/sh
# Makes a base image of Debian 12 with its Python, where none can be pulled: docker/base.sh NAME
# Needs mmdebstrap, and podman or docker. Documentation and translations stay out, as in the official images.
set -eu
name=${1:?usage: docker/base.sh NAME}
engine=$(command -v podman || command -v docker)
archive=$(mktemp --suffix .tar)
trap 'rm -f "$archive"' EXIT
mmdebstrap --variant=minbase --include=python3,python3-venv,python3-pip,ca-certificates,libstdc++6 \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-include=/usr/share/doc/*/copyright' \
    --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/info/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    bookworm "$archive"
"$engine" import "$archive" "$name"
