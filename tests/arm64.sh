#!/usr/bin/env bash
# The kernel, program and convolution tests on arm64, under user-mode emulation: by hand, on Debian, as root; hours.
#
#   tests/arm64.sh FOLDER [pytest arguments]
#
# FOLDER keeps what is installed for the next time: an arm64 Python from Debian's packages, and arm64 wheels.
set -euo pipefail
root=$(realpath -m "$1")
shift
cd "$(dirname "$0")/.."

if [ ! -e "$root/complete" ]; then
    apt-get install -y -q qemu-user-static binutils
    dpkg --add-architecture arm64
    apt-get update -q
    mkdir -p "$root/packages" "$root/wheels" "$root/site"
    python=$(apt-cache depends python3-minimal:arm64 | sed -n 's/.*Depends: \(python3\.[0-9]*\)-minimal.*/\1/p' | head -1)
    (cd "$root/packages" && apt-get download -q "$python-minimal:arm64" "lib$python-minimal:arm64" \
        "lib$python-stdlib:arm64" libc6:arm64 libgcc-s1:arm64 libstdc++6:arm64 zlib1g:arm64 libexpat1:arm64 \
        libffi8:arm64 libbz2-1.0:arm64 liblzma5:arm64 libssl3:arm64 libsqlite3-0:arm64 libuuid1:arm64 libcrypt1:arm64)
    for package in "$root"/packages/*.deb; do dpkg -x "$package" "$root"; done
    pip download -q --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --platform manylinux2014_aarch64 --platform manylinux_2_17_aarch64 --python-version "${python#python}" \
        --only-binary=:all: -d "$root/wheels" numpy numba safetensors tqdm pytest hypothesis
    for wheel in "$root"/wheels/*.whl; do python3 -m zipfile -e "$wheel" "$root/site"; done
    # What the emulated Python takes for itself, so that processes which tests start are emulated, too.
    printf '#!/bin/sh\nexec qemu-aarch64-static -0 "$0" -L "%s" "%s" "$@"\n' "$root" "$root/usr/bin/$python" > "$root/python"
    chmod +x "$root/python"
    touch "$root/complete"
fi

if [ "$#" -eq 0 ]; then
    set -- tests/test_kernels.py tests/test_vecmath.py tests/test_program.py tests/test_operations.py \
        tests/test_convolution.py tests/test_convolution_tiles.py tests/test_convolution_pieces.py \
        tests/test_pooling.py tests/test_compiled.py tests/test_team.py tests/test_launches.py
fi
export PYTHONPATH="$root/site:$PWD:$PWD/kernels" NUMBA_CACHE_DIR="$root/cache" PYTHONHOME="$root/usr"
exec "$root/python" -m pytest -q "$@"
