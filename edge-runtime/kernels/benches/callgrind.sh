#!/usr/bin/env bash
# Instructions of the inner loops, free of a machine's noise: one JSON line for each kernel and loop.
#
#     edge-runtime/kernels/benches/callgrind.sh
#
# Needs valgrind, which knows AVX2 and no VNNI: the kernels above AVX2 are counted on Arm (../../benches/arm-instructions.sh) or timed.
set -euo pipefail
cd "$(dirname "$0")/../../.."
cargo build -q --release -p kernels --example count --locked
collected() { # kernel loop runs
    valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/examples/count "$@" 2>&1 |
        sed -n 's/.*Collected : //p'
}
for kernel in avx2 portable; do
    for loop in gemm conv depthwise max-pool; do
        few=$(collected $kernel $loop 1)
        many=$(collected $kernel $loop 3)
        echo "{\"kernel\": \"$kernel\", \"loop\": \"$loop\", \"instructions\": $(((many - few) / 2))}"
    done
done
