#!/usr/bin/env bash
# The rules of the dependency tree that a list of banned crates cannot say:
# which crate may know which, and that one thing is in the tree once.
# Reads Cargo.lock through `cargo tree`; needs no network once dependencies are fetched.
set -euo pipefail
cd "$(dirname "$0")/.."

failed=0
complain() {
    echo "check-tree: $*" >&2
    failed=1
}

# Names of everything crate $1 brings into a build that uses it, itself left out.
tree_of() {
    cargo tree --locked --quiet --package "$1" --edges normal --all-features --prefix none --format '{p}' \
        | awk '{ print $1 }' | sort -u | grep -vx "$1" || true
}

# must_not_know CRATE NAME..: CRATE reaches none of the names.
must_not_know() {
    local crate=$1 tree name
    shift
    tree=$(tree_of "$crate")
    for name in "$@"; do
        if grep -qx -- "$name" <<<"$tree"; then
            complain "$crate must not know $name; see 'cargo tree -p $crate -i $name'"
        fi
    done
}

# may_use CRATE OURS..: of the crates in this workspace, CRATE reaches at most these.
may_use() {
    local crate=$1 used
    shift
    for used in $(tree_of "$crate" | grep '^ferrotunnel' || true); do
        case " $* " in
            *" $used "*) ;;
            *) complain "$crate may not depend on $used: arrows point one way (ARCHITECTURE.md)" ;;
        esac
    done
}

engine="tokio mio hyper rustls tokio-rustls"

# Arrows between our own crates.
may_use ferrotunnel-common
may_use ferrotunnel-protocol ferrotunnel-common
may_use ferrotunnel-core ferrotunnel-common ferrotunnel-protocol
may_use ferrotunnel-plugin ferrotunnel-common
may_use ferrotunnel-http ferrotunnel-common ferrotunnel-protocol ferrotunnel-core ferrotunnel-plugin
may_use ferrotunnel-inspector ferrotunnel-common ferrotunnel-protocol ferrotunnel-core ferrotunnel-plugin
may_use ferrotunnel-observability ferrotunnel-common ferrotunnel-protocol ferrotunnel-core ferrotunnel-plugin ferrotunnel-inspector
may_use ferrotunnel ferrotunnel-common ferrotunnel-protocol ferrotunnel-core ferrotunnel-plugin ferrotunnel-http ferrotunnel-observability ferrotunnel-inspector
may_use ferrotunnel-cli ferrotunnel ferrotunnel-common ferrotunnel-protocol ferrotunnel-core ferrotunnel-plugin ferrotunnel-http ferrotunnel-observability ferrotunnel-inspector

# The pure crates: no runtime, no sockets, no cryptography, no serialisation format.
# shellcheck disable=SC2086 # a list of words
must_not_know ferrotunnel-common $engine serde aws-lc-rs parking_lot socket2
# shellcheck disable=SC2086
must_not_know ferrotunnel-protocol $engine serde aws-lc-rs parking_lot socket2
must_not_know ferrotunnel-core hyper http axum clap prometheus prometheus-client
# Plugins are asked by those who have sockets and runtimes, and have none themselves.
must_not_know ferrotunnel-plugin tokio mio hyper rustls tokio-rustls socket2 clap prometheus prometheus-client
must_not_know ferrotunnel-http clap prometheus prometheus-client
must_not_know ferrotunnel-inspector clap prometheus prometheus-client
must_not_know ferrotunnel-observability clap
must_not_know ferrotunnel clap mimalloc

# The pure crates read no clock: `now` is an argument. Tests and benches may.
clocks=$(grep -rnE '(Instant|SystemTime)::now\(' ferrotunnel-common/src ferrotunnel-protocol/src \
    --include='*.rs' --exclude-dir=tests --exclude='tests.rs' --exclude='*_tests.rs' || true)
if [[ -n $clocks ]]; then
    complain "a pure crate reads the clock:"$'\n'"$clocks"
fi

# One crypto provider and one TLS implementation, dev-dependencies and every platform included.
everything=$(cargo tree --locked --quiet --workspace --edges all --target all --all-features --prefix none --format '{p}' \
    | awk '{ print $1 }' | sort -u)
for name in ring openssl openssl-sys native-tls; do
    if grep -qx -- "$name" <<<"$everything"; then
        complain "$name is in the tree; aws-lc-rs under rustls is the one provider (cargo tree --workspace --target all -i $name)"
    fi
done

# What is shipped contains nothing twice, but for a parser of 200 lines: instant-acme asks for aws-lc-rs with
# its default features, and that wants an older one than rustls-webpki does. Macros run while it is built and are no part of it.
twice=$(cargo tree --locked --quiet --package ferrotunnel-cli --edges normal,no-proc-macro --prefix none --format '{p}' \
    | sed 's/ (.*//' | sort -u | awk '{ print $1 }' | uniq -d | { grep -vx untrusted || true; })
if [[ -n $twice ]]; then
    complain "two versions of the same crate in the binary (cargo tree -d -p ferrotunnel-cli -e normal,no-proc-macro): "$'\n'"$twice"
fi

exit "$failed"
