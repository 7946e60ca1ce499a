#!/bin/sh
# Builds the image with docker, podman or buildah, whichever works on this machine.
# BUILDER, IMAGE, BASE and REQUIREMENTS (requirements/tracing.txt) choose otherwise; CA is a certificate file for a
# package index behind a proxy; BUILD_FLAGS goes to the builder as it is.
set -eu
cd "$(dirname "$0")/.."

find_builder() {
    for builder in docker podman buildah; do
        if "$builder" info > /dev/null 2>&1; then
            echo "$builder"
            return
        fi
    done
    echo "no image builder works here: install docker, podman or buildah" >&2
    exit 1
}

BUILDER=${BUILDER:-$(find_builder)}
case $BUILDER in
    # The default format of these two has no HEALTHCHECK.
    podman | buildah) set -- --format docker ;;
    *) set -- ;;
esac
[ -z "${BASE:-}" ] || set -- "$@" --build-arg "BASE=$BASE"
[ -z "${REQUIREMENTS:-}" ] || set -- "$@" --build-arg "REQUIREMENTS=$REQUIREMENTS"
[ -z "${CA:-}" ] || set -- "$@" --secret "id=ca,src=$CA"

# shellcheck disable=SC2086
exec "$BUILDER" build "$@" ${BUILD_FLAGS:-} \
    --build-arg "VERSION=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)" \
    --build-arg "REVISION=$(git rev-parse HEAD 2> /dev/null || echo unknown)" \
    -f docker/Dockerfile -t "${IMAGE:-localhost/fer-service:dev}" .
