# The one entry to everything a contributor does; CI runs these same recipes.

set shell := ["bash", "-euo", "pipefail", "-c"]

cargo := "cargo"
export CARGO_TERM_COLOR := env("CARGO_TERM_COLOR", "auto")

# Lists the recipes.
default:
    @just --list

# Formats every crate, the fuzz workspace included.
fmt:
    {{ cargo }} fmt --all
    {{ cargo }} fmt --manifest-path ferrotunnel-protocol/fuzz/Cargo.toml

# Fails where `just fmt` would change something.
fmt-check:
    {{ cargo }} fmt --all --check
    {{ cargo }} fmt --manifest-path ferrotunnel-protocol/fuzz/Cargo.toml --check

# Clippy over every target, warnings are errors.
lint:
    {{ cargo }} clippy --locked --workspace --all-targets --all-features -- -D warnings

# Builds the documentation, warnings are errors.
doc:
    RUSTDOCFLAGS="-D warnings" {{ cargo }} doc --locked --workspace --no-deps --all-features

# Every test, doctests included.
test:
    {{ cargo }} test --locked --workspace

# Unit and integration tests side by side, with a limit of time for each (`.config/nextest.toml`); `doctest` has the rest.
nextest *ARGS:
    {{ cargo }} nextest run --locked --workspace {{ ARGS }}

# The examples in the documentation.
doctest:
    {{ cargo }} test --locked --workspace --doc

# The programs, with the features that all crates and their tests together ask for: behind the tests there is nothing to compile.
programs:
    {{ cargo }} build --locked --workspace --bins --tests

# End-to-end tests only: real servers, clients and peers on loopback.
e2e *ARGS:
    {{ cargo }} test --locked --package ferrotunnel-tests {{ ARGS }}

# Large bodies through the built program, four times so many MiB without inspection and with it, and what server and client grow by.
large-bodies MIB="1024":
    FT_BODY_MIB={{ MIB }} {{ cargo }} test --locked --package ferrotunnel-cli --test bodies -- --nocapture

# Bans, licences and sources of dependencies, then the arrows between our own crates.
deny:
    {{ cargo }} deny --all-features check --hide-inclusion-graph bans licenses sources
    tools/check-tree.sh

# Dependencies with known vulnerabilities; fetches the RustSec database.
advisories:
    {{ cargo }} deny check advisories

# Which crate may know which; one crypto provider; nothing twice in the binary.
check-tree:
    tools/check-tree.sh

# Each benchmark once, to see that it still runs. No number of it means anything.
bench-smoke:
    {{ cargo }} test --locked --workspace --bench '*'

# Benchmarks with criterion; ARGS are criterion's, like a name to run only some.
bench *ARGS:
    {{ cargo }} bench --locked --workspace --bench '*' -- {{ ARGS }}

# Saves what the benchmarks measure now, for `bench-compare`.
bench-save NAME="before" *ARGS:
    {{ cargo }} bench --locked --workspace --bench '*' -- --save-baseline {{ NAME }} {{ ARGS }}

# Benchmarks again, against what `bench-save` saved on this machine.
bench-compare NAME="before" *ARGS:
    {{ cargo }} bench --locked --workspace --bench '*' -- --baseline-lenient {{ NAME }} {{ ARGS }}

# Counts the instructions of the hot paths and holds them to `benches/instructions.json`.
instructions:
    CARGO_INCREMENTAL=0 {{ cargo }} run --locked --profile instructions --quiet --package ferrotunnel-benches --bin instructions

# Writes `benches/instructions.json` anew.
instructions-update:
    CARGO_INCREMENTAL=0 {{ cargo }} run --locked --profile instructions --quiet --package ferrotunnel-benches --bin instructions -- update

# The HTTP ingress beside two haproxies: HTTP/1.1, HTTP/2 and HTTPS; wants a release build and a quiet machine.
bench-edge *ARGS:
    tools/bench-edge {{ ARGS }}

# What metrics and inspection cost an HTTP tunnel, held to bars; wants a release build and a quiet machine.
bench-watch *ARGS:
    tools/bench-watch {{ ARGS }}

# This and other tunnels side by side on this machine; writes `BENCHMARKS.md`, its chart and the table of the README. Wants a quiet machine.
bench-rivals *ARGS:
    tools/bench-rivals --readme README.md {{ ARGS }}

# What sessions, tunnels, streams, requests and bytes cost at several sizes; writes the tables of `docs/scaling.md`. Wants a quiet machine.
scaling *ARGS:
    tools/scaling {{ ARGS }}

# Every fuzz target for some seconds.
fuzz-smoke seconds="20":
    ferrotunnel-protocol/fuzz/smoke {{ seconds }}

# Load on a tunnel of its own, or with `--target` on anything; ARGS like `bulk --direction up`, `http --help`.
loadgen *ARGS:
    {{ cargo }} run --locked --release --quiet --package ferrotunnel-loadgen -- {{ ARGS }}

# Server, clients and visitors over a simulated network, so many seeds of it. `FT_SEED=7 just simulate` plays one again.
simulate SEEDS="2000":
    FT_CASES={{ SEEDS }} {{ cargo }} test --locked --package ferrotunnel-core --lib simulation -- --nocapture

# Ten minutes of real traffic through processes that are killed again and again, every byte checked; ARGS like `--seed 7`.
soak *ARGS:
    {{ cargo }} build --locked --release --package ferrotunnel-cli --package ferrotunnel-soak
    target/release/ferrotunnel-soak {{ ARGS }}

# The same for a minute, unoptimised and with fewer visitors.
soak-smoke: programs
    target/debug/ferrotunnel-soak --duration 60s --warmup 8s --visitors 24 --long-streams 1 --kill-every 4s --server-kill-every 12s

# Each kind of bad peer at a server of its own: what others wait with and without it, and the server's memory; ARGS like `--window 20s pings`.
hostile *ARGS:
    {{ cargo }} build --locked --release --package ferrotunnel-cli --package ferrotunnel-hostile
    target/release/ferrotunnel-hostile {{ ARGS }}

# The attacks of slowhttptest (which has to be installed) on an HTTP tunnel, beside a good visitor.
slowhttp *ARGS:
    tools/slowhttp {{ ARGS }}

# gRPC of another make (grpcio) at both ends of a tunnel; installs it from PyPI below `target` where it is missing.
grpc-peer: programs
    tools/grpc-peer

# The dashboard: types, tests, and whether `ferrotunnel-observability/assets` is what its sources build.
web:
    cd web && npm ci --no-audit --no-fund --loglevel=error && npm run --silent check && npm test --silent
    cd web && npm run --silent build -- --logLevel warn --outDir ../target/dashboard
    diff --recursive --brief target/dashboard ferrotunnel-observability/assets \
        || { echo "the dashboard's files are not what its sources build: run just web-build"; exit 1; }

# Builds the dashboard into `ferrotunnel-observability/assets`, which is checked in.
web-build:
    cd web && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build -- --logLevel warn

# The dashboard and what else there is to see, in a browser, on a server, a client and a local site of its own; after `just web`.
web-e2e *ARGS: programs
    cd web && npm run --silent e2e -- {{ ARGS }}

# Makes the pictures of `docs/pictures` anew, or some of them: ARGS like `--testNamePattern trace`. The dashboard's are set in Inter where that is installed.
pictures *ARGS: programs
    cd web && FT_PICTURES=1 npm run --silent e2e -- e2e/pictures.test.ts e2e/surfaces.test.ts {{ ARGS }}

# The admin interfaces of a server and a client, held to their OpenAPI; installs schemathesis from PyPI below `target` where it is missing.
schemathesis *ARGS: programs
    tools/schemathesis {{ ARGS }}

# A real Prometheus reads the metrics of a server and a client, the alert rules and the queries of the example dashboard.
prometheus: programs
    tools/prometheus

# Runs the README's first command, opens the page, stops it; or the demo of a PROGRAM that is built already.
demo-smoke *PROGRAM:
    tools/smoke-demo.sh {{ PROGRAM }}

# What CI runs.
ci:
    .ci/run

# Installs the tools these recipes use.
tools:
    tools/install.sh
