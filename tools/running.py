"""The ferrotunnel command as processes of a script on loopback, and a request through their tunnel."""

import http.client, json, os, pathlib, queue, subprocess, threading

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATIENCE = 30  # seconds for what is not expected to take one


class Running:
    """A process of ours that tells its events; killed at the end."""

    def __init__(self, *args):
        program = ROOT / "target" / "debug" / "ferrotunnel"
        clean = {name: value for name, value in os.environ.items() if not name.startswith("FERROTUNNEL_")}
        self.process = subprocess.Popen([program, *args, "--json", "--log-level", "error"], stdout=subprocess.PIPE,
                                        stdin=subprocess.DEVNULL, env=clean, text=True)
        self.lines = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(line)

    def event(self, name):
        while True:
            event = json.loads(self.lines.get(timeout=PATIENCE))
            if event["event"] == name:
                return event

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def visit(at, host):
    """One request through the tunnel, so that there is something to be read."""
    connection = http.client.HTTPConnection(at, timeout=PATIENCE)
    connection.request("GET", "/", headers={"Host": host})
    connection.getresponse().read()
