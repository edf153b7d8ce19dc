"""What the benchmarks of the HTTP edge have in common: processes that end, a local service, a certificate, visitors.

Nothing leaves the loopback, and only processes that were started here are ended.
"""

import contextlib, os, pathlib, re, shutil, signal, socket, subprocess, sys, time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BINARY = ROOT / "target/release/ferrotunnel"
HOST = "app.localhost"
QUIET = {"RUST_LOG": "error", "FERROTUNNEL_TOKEN": "a-token-for-benchmarks"}
TICK = os.sysconf("SC_CLK_TCK")


def wanted(binary, *tools):
    """Ends here if something is missing."""
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        sys.exit(f"missing: {' '.join(missing)}; install them first")
    if not binary.exists():
        sys.exit(f"{binary} is not there; run `cargo build --release` first")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def until_open(port, what):
    for _ in range(200):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    sys.exit(f"{what} does not listen on port {port}")


class Running:
    """Processes that end with the block."""

    def __init__(self, work):
        self.work, self.processes = work, []

    def start(self, *command, env=None):
        with open(self.work / "log", "ab") as log:
            process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                       start_new_session=True, env=os.environ | (env or {}))
        self.processes.append(process)
        return process

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def nginx(running, port):
    # Its workers are another user's.
    running.work.chmod(0o755)
    www = running.work / "www"
    www.mkdir()
    (www / "1m").write_bytes(b"a" * (1 << 20))
    conf = running.work / "nginx.conf"
    conf.write_text(f"""worker_processes 1; daemon off; pid {running.work}/nginx.pid; error_log {running.work}/nginx.err;
events {{ worker_connections 4096; }}
http {{ access_log off; sendfile on; tcp_nodelay on; keepalive_timeout 3600; keepalive_requests 1000000000;
 server {{ listen 127.0.0.1:{port} backlog=4096; root {www}; default_type application/octet-stream;
  location = / {{ default_type text/plain; return 200 'ok'; }} }} }}
""")
    running.start("nginx", "-c", conf)
    until_open(port, "nginx")


def certificate(running):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", f"/CN={HOST}", "-addext", f"subjectAltName=DNS:{HOST}", "-keyout", running.work / "key.pem",
                    "-out", running.work / "cert.pem"], check=True, capture_output=True)


def ferrotunnel(running, binary, origin, server=(), client=()):
    """A server and a client with these options besides; returns the port for visitors, and both processes."""
    carriers, plain = free_port(), free_port()
    serving = running.start(binary, "server", "--plaintext", "--bind", f"127.0.0.1:{carriers}",
                            "--http-bind", f"127.0.0.1:{plain}", *server, env=QUIET)
    for port in (carriers, plain):
        until_open(port, "ferrotunnel server")
    forwarding = running.start(binary, "http", f"127.0.0.1:{origin}", "--server", f"127.0.0.1:{carriers}", "--plaintext",
                               "--name", "app", *client, env=QUIET)
    for _ in range(100):
        done = subprocess.run(["curl", "-s", "-H", f"Host: {HOST}", f"http://127.0.0.1:{plain}/"], capture_output=True, timeout=10)
        if done.stdout == b"ok":
            return plain, serving, forwarding
        time.sleep(0.05)
    sys.exit(f"the tunnel is not there: {(running.work / 'log').read_text()[-2000:]}")


def wrk(url, connections, path, seconds):
    done = subprocess.run(["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-H", f"Host: {HOST}", url + path],
                          capture_output=True, text=True, timeout=seconds + 60)
    rate = re.search(r"Requests/sec: *([\d.]+)", done.stdout)
    bad = re.search(r"Non-2xx or 3xx responses: *(\d+)", done.stdout)
    return float(rate.group(1)) if rate and not bad else None


def h2load(url, connections, streams, seconds):
    done = subprocess.run(["h2load", "-t1", f"-c{connections}", f"-m{streams}", f"-D{seconds}", "-H", f":authority: {HOST}",
                           url + "/"], capture_output=True, text=True, timeout=seconds + 60)
    rate = re.search(r"finished in [\d.]+\w*, ([\d.]+) req/s", done.stdout)
    failed = re.search(r"(\d+) failed, (\d+) errored", done.stdout)
    broken = not failed or any(int(count) for count in failed.groups())
    return None if broken or not rate else float(rate.group(1))


def processor_seconds(process):
    """What it has used so far."""
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK
