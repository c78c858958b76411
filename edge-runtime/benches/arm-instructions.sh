#!/usr/bin/env bash
# Instructions of one inference on emulated Arm cores, per kernel, beside tract's float path.
#
#     edge-runtime/benches/arm-instructions.sh model.hilum [model.onnx]
#
# Needs gcc, qemu-user (QEMU 6 to 8 with plugins) and gcc-aarch64-linux-gnu. One JSON line a measurement.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
int8=$(realpath "$1")
float=${2:+$(realpath "$2")}
cd "$here/../.."
export CC_aarch64_unknown_linux_musl=aarch64-linux-gnu-gcc
# The profile of what boards run: what the compiler unrolls and keeps in registers is another thing in each.
cargo build -q --profile device -p edge-runtime --example infer --locked --target aarch64-unknown-linux-musl
plugin=$(mktemp --suffix=.so)
trap 'rm -f "$plugin"' EXIT
gcc -shared -fPIC -O2 -o "$plugin" "$here/instructions.c"
infer=${CARGO_TARGET_DIR:-target}/aarch64-unknown-linux-musl/device/examples/infer

count() { # cpu kernel model runs
    HILUM_KERNEL=$2 qemu-aarch64 -cpu "$1" -plugin "$plugin" "$infer" "$3" "$4" 2>&1 >/dev/null | sed -n 's/^instructions //p'
}
measure() { # cpu kernel model
    local few many
    if ! few=$(count "$1" "$2" "$3" 2); then
        echo "$(basename "$3") is not counted on $1: infer does not run it (an ONNX of another origin has no contract)" >&2
        return
    fi
    many=$(count "$1" "$2" "$3" 4)
    echo "{\"cpu\": \"$1\", \"kernel\": \"${2:-tract-f32}\", \"model\": \"$(basename "$3")\", \"instructions\": $(((many - few) / 2))}"
}
for cpu in cortex-a53 cortex-a72; do
    measure "$cpu" neon "$int8"
    measure "$cpu" portable "$int8"
    [ -z "$float" ] || measure "$cpu" "" "$float"
done
measure cortex-a76 dotprod "$int8"
measure cortex-a76 neon "$int8"
[ -z "$float" ] || measure cortex-a76 "" "$float"
measure max i8mm "$int8"
