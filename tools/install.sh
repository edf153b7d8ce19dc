#!/usr/bin/env bash
# Installs what the recipes use and the machine lacks. Safe to run again; a second run installs nothing.
# Cargo tools go where `cargo install` puts them. System packages only where apt-get exists and we are root.
set -euo pipefail
cd "$(dirname "$0")/.."

# Versions are pinned so that a run today and a run next year judge alike.
just_version=1.59.0
cargo_deny_version=0.20.2
cargo_nextest_version=0.9.143

install_crate() {
    local program=$1 crate=$2 version=$3
    if command -v "$program" >/dev/null 2>&1; then
        echo "tools: $program is there"
        return
    fi
    echo "tools: building $crate $version (once; a few minutes on a small machine)"
    # Its own target directory: the one of the workspace would keep the build products for ever.
    CARGO_TARGET_DIR=target/tools cargo install --quiet --locked "$crate" --version "$version" </dev/null
    rm -rf target/tools
}

install_crate just just "$just_version"
install_crate cargo-deny cargo-deny "$cargo_deny_version"
install_crate cargo-nextest cargo-nextest "$cargo_nextest_version"

# Real peers for the end-to-end tests, a browser, an ACME server, Prometheus, what the load tool is compared with, a C++ compiler for
# libFuzzer, and what counts instructions.
wanted=()
command -v redis-server >/dev/null 2>&1 || wanted+=(redis-server)
command -v redis-cli >/dev/null 2>&1 || wanted+=(redis-tools)
command -v psql >/dev/null 2>&1 || wanted+=(postgresql-client)
command -v curl >/dev/null 2>&1 || wanted+=(curl)
command -v nc >/dev/null 2>&1 || wanted+=(netcat-openbsd)
command -v h2load >/dev/null 2>&1 || wanted+=(nghttp2-client)
command -v nginx >/dev/null 2>&1 || wanted+=(nginx-light)
command -v wrk >/dev/null 2>&1 || wanted+=(wrk)
command -v c++ >/dev/null 2>&1 || wanted+=(g++)
command -v valgrind >/dev/null 2>&1 || wanted+=(valgrind)
command -v chromium >/dev/null 2>&1 || wanted+=(chromium)
command -v prometheus >/dev/null 2>&1 || wanted+=(prometheus)
command -v pebble >/dev/null 2>&1 || wanted+=(pebble)
command -v node >/dev/null 2>&1 || wanted+=(nodejs)
command -v npm >/dev/null 2>&1 || wanted+=(npm)

if [[ ${#wanted[@]} -gt 0 ]]; then
    if command -v apt-get >/dev/null 2>&1 && [[ $(id -u) == 0 ]]; then
        echo "tools: apt-get install ${wanted[*]}"
        if ! { DEBIAN_FRONTEND=noninteractive timeout 120 apt-get -qq update \
            && DEBIAN_FRONTEND=noninteractive timeout 240 apt-get -qq install --yes --no-install-recommends "${wanted[@]}"; } \
            </dev/null >/dev/null; then
            echo "tools: could not install ${wanted[*]}; what needs them will say that it is skipped" >&2
        fi
    else
        echo "tools: missing ${wanted[*]}; install them to run what needs them" >&2
    fi
fi

# The dashboard is built with Node, at least 20.19, which some distributions do not have yet; npm has it as a package. The
# program itself needs none: what is built is checked in.
node_version=20.20.2
new_enough() {
    command -v node >/dev/null 2>&1 \
        && node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)'
}
if new_enough; then
    echo "tools: node $(node --version) is there"
elif command -v npm >/dev/null 2>&1; then
    echo "tools: installing node $node_version"
    timeout 240 npm install --global --silent "node@$node_version" </dev/null || true
    hash -r
    new_enough || echo "tools: no node of 20.19 or later; what builds the dashboard will fail" >&2
else
    echo "tools: no npm; what builds the dashboard will fail" >&2
fi
