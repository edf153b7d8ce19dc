#!/usr/bin/env bash
# Builds every fuzz target and runs each for some seconds: fuzz-smoke.sh [SECONDS].
#
# The stable compiler can instrument for libFuzzer by itself, so neither a nightly nor cargo-fuzz is needed. What only a
# nightly could add is the address sanitizer, and there is no unsafe code to watch.
set -euo pipefail
cd "$(dirname "$0")/../ferrotunnel-protocol/fuzz"
seconds=${1:-20}

host=$(rustc -vV | sed -n 's/^host: //p')
# `--target` keeps the flags away from build scripts and procedural macros.
export RUSTFLAGS="--cfg fuzzing -C passes=sancov-module \
-C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-trace-compares \
-C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
-C codegen-units=1 -C debug-assertions=on -C overflow-checks=on"
target_dir=${CARGO_TARGET_DIR:-target}
CARGO_TARGET_DIR=$target_dir cargo build --quiet --release --bins --target "$host" </dev/null

targets=$(cargo metadata --no-deps --format-version 1 </dev/null \
    | grep -o '"kind":\["bin"\],"crate_types":\["bin"\],"name":"[^"]*"' | sed 's/.*"name":"//; s/"$//')
[[ -n $targets ]] || { echo "fuzz-smoke: no targets found" >&2; exit 1; }

for target in $targets; do
    mkdir -p "corpus/$target" "artifacts/$target"
    echo "fuzz-smoke: $target for $seconds s"
    log=$(mktemp)
    # Seeds that are kept in the repository come after the working corpus, which libFuzzer writes to.
    seeds=()
    [[ -d seeds/$target ]] && seeds+=("seeds/$target")
    if ! timeout $((seconds + 60)) "$target_dir/$host/release/$target" "corpus/$target" "${seeds[@]}" \
        -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 \
        -artifact_prefix="artifacts/$target/" -print_final_stats=1 </dev/null >"$log" 2>&1; then
        tail -n 40 "$log" >&2
        echo "fuzz-smoke: $target failed; the input is in ferrotunnel-protocol/fuzz/artifacts/$target" >&2
        rm -f "$log"
        exit 1
    fi
    grep -E 'stat::number_of_executed_units|Done ' "$log" || true
    rm -f "$log"
done
