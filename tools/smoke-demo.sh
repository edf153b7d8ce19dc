#!/usr/bin/env bash
# Runs the first command of the README, opens the URL it prints, and stops it as a service manager would.
# smoke-demo.sh [PROGRAM]: the demo of a program that is built already.
set -euo pipefail
cd "$(dirname "$0")/.."
out=$(mktemp)
trap 'rm -f "$out"' EXIT

if [[ $# -gt 0 ]]; then
    "$1" demo >"$out" </dev/null &
else
    # The build is not part of the demo's own start.
    timeout 900 cargo build --locked --release </dev/null
    # cargo replaces itself by the program, so this is the program's own process id.
    cargo run --locked --release --quiet -- demo >"$out" </dev/null &
fi
demo=$!
stop() {
    kill -KILL "$demo" 2>/dev/null || true
    rm -f "$out"
}
trap stop EXIT

url=
for _ in $(seq 100); do
    url=$(head -n 1 "$out")
    [[ -n $url ]] && break
    kill -0 "$demo" 2>/dev/null || { echo "smoke-demo: the demo ended before it printed a URL" >&2; exit 1; }
    sleep 0.2
done
[[ $url == http://* ]] || { echo "smoke-demo: the first line on stdout is not a URL: '$url'" >&2; exit 1; }

# curl resolves *.localhost by itself.
page=$(curl --silent --show-error --fail --max-time 10 --noproxy '*' "$url" </dev/null)
grep -q 'FerroTunnel' <<<"$page" || { echo "smoke-demo: $url answered something else" >&2; exit 1; }

kill -TERM "$demo"
code=0
timeout 15 tail --pid="$demo" -f /dev/null || { echo "smoke-demo: still running 15 s after SIGTERM" >&2; exit 1; }
wait "$demo" || code=$?
[[ $code == 0 ]] || { echo "smoke-demo: exit code $code after SIGTERM" >&2; exit 1; }
trap 'rm -f "$out"' EXIT
echo "smoke-demo: $url answered, and SIGTERM ended it cleanly"
