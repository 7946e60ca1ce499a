#!/bin/sh
# Removes from the packages in $1 what the service never loads, and says how much each kind was.
set -eu
cd "$1"

drop() {
    name=$1
    shift
    before=$(du -sk . | cut -f1)
    "$@"
    echo "dropped $(($before - $(du -sk . | cut -f1))) kB: $name"
}

drop "tests" find . -depth -type d -name tests -exec rm -r {} +
drop "stubs, headers and sources of compiled modules" find . -type f \
    \( -name '*.pyi' -o -name '*.pyx' -o -name '*.pxd' -o -name '*.c' -o -name '*.h' -o -name '*.a' \) -delete
drop "ONNX Runtime's model tools" rm -r onnxruntime/transformers onnxruntime/quantization onnxruntime/tools
# The latter is there before Python 3.12 only.
drop "NumPy's Fortran and build tools" rm -rf numpy/f2py numpy/distutils
