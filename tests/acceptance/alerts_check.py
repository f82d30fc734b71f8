"""Causes every alert of deploy/prometheus/alerts.yml in running processes, and waits until a real Prometheus fires it.

    alerts_check.py MILLPOND [FOLDER]

MILLPOND is the binary; FOLDER is empty or new, passable by everybody (PostgreSQL does not run as root). It needs Debian's
`prometheus` and `psql`. It starts a PostgreSQL of its own, the sandbox, an API, two workers, a scheduler, and a
Prometheus that reads the same rules faster: every minute in them is a second, every hour a minute, and `N * 60` seconds are
N. Nothing else of a rule is changed, but for the two numbers in LOWERED, which no test can reach.

Ends 0 when nothing fired while all was well and every alert fired when it was caused.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES = ROOT / "deploy/prometheus/alerts.yml"
# No test waits for millions of transactions.
LOWERED = {"> 5000000\n": "> 50000\n", "> 1000000000\n": "> 50000\n"}
TRANSACTIONS = 52_000

READY_S_MAX = 60
# All must have been well for so long, which covers every `for` but the hour of a forgotten pause.
WELL_S = 35
FIRES_S_MAX = 100
ANSWER_S_MAX = 10
# The server allows 200.
SESSIONS = 187
LEASE_MS = 1_000


class Failed(Exception):
    pass


def until(what, condition, seconds=READY_S_MAX):
    deadline = time.monotonic() + seconds
    while True:
        try:
            found = condition()
        except (OSError, ValueError):
            found = None
        if found:
            return found
        if time.monotonic() > deadline:
            raise Failed(f"{what} did not come about within {seconds} s")
        time.sleep(0.2)


def get(url):
    with urllib.request.urlopen(url, timeout=ANSWER_S_MAX) as answer:
        return answer.read().decode()


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Processes:
    """Those that were started here, ended by their ids."""

    def __init__(self, folder):
        self.folder = folder
        self.running = {}

    def start(self, name, *command, **variables):
        environment = {key: value for key, value in os.environ.items() if not key.startswith(("MILLPOND_", "PG"))}
        environment.update(variables)
        with open(self.folder / f"{name}.out", "wb") as out, open(self.folder / f"{name}.err", "wb") as err:
            self.running[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                                  env=environment, cwd=self.folder)

    def ready_url(self, name):
        def told():
            found = re.search(r"^ready .*?url=(\S+)", (self.folder / f"{name}.out").read_text(), re.M)
            return found and found.group(1)
        return until(f"{name} to be ready", told)

    def signal(self, name, what):
        self.running[name].send_signal(what)

    def kill(self, name):
        process = self.running.pop(name)
        process.kill()
        process.wait()

    def end(self):
        for name, process in reversed(list(self.running.items())):
            process.send_signal(signal.SIGCONT)
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Database:
    """PostgreSQL, as an operator or a careless visitor uses it."""

    def __init__(self, url):
        self.url = url
        self.visitors = []
        self.sessions = []

    def run(self, statement):
        command = ["psql", self.url, "--quiet", "--no-psqlrc", "--set", "ON_ERROR_STOP=1", "--command", statement]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60)
        if ended.returncode != 0:
            raise Failed(f"{statement}: {ended.stderr.strip()}")

    def visit(self, statements, seconds):
        """Runs statements in a transaction that stays open for so long."""
        script = f"begin isolation level repeatable read; {statements}; select pg_sleep({seconds}); commit"
        visitor = subprocess.Popen(["psql", self.url, "--quiet", "--no-psqlrc", "--command", script],
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.visitors.append(visitor)
        return visitor

    def connect(self, most):
        """Opens sessions that do nothing, until there are so many in all."""
        asked = ["psql", self.url, "--no-psqlrc", "--tuples-only", "--command",
                 "select count(*) from pg_stat_activity where backend_type = 'client backend'"]
        there = int(subprocess.run(asked, check=True, capture_output=True, text=True, timeout=60).stdout)
        where = re.search(r"host=([^&]+)", self.url) or re.search(r"@([^/:]+)", self.url)
        folder = urllib.request.unquote(where.group(1))
        path = next(path for path in pathlib.Path(folder).iterdir() if re.fullmatch(r"\.s\.PGSQL\.\d+", path.name))
        user = re.search(r"//([^:@/]+)@", self.url) or re.search(r"user=([^&]+)", self.url)
        name = re.search(r"//[^/]*/([^?]+)", self.url).group(1)
        words = b"\0".join([b"user", user.group(1).encode(), b"database", name.encode(), b"", b""])
        hello = (len(words) + 8).to_bytes(4, "big") + (196_608).to_bytes(4, "big") + words
        for _ in range(most - there):
            session = socket.socket(socket.AF_UNIX)
            session.connect(str(path))
            session.sendall(hello)
            session.settimeout(ANSWER_S_MAX)
            if session.recv(1) != b"R":
                raise Failed("a session was refused")
            self.sessions.append(session)

    def leave(self):
        for session in self.sessions:
            session.close()
        for visitor in self.visitors:
            visitor.terminate()
            visitor.wait()


class Collector:
    """Takes spans, until it is told to refuse them."""

    def __init__(self):
        self.status = 200
        collector = self

        class Taker(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(collector.status)
                self.send_header("content-type", "application/x-protobuf")
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Taker)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def refuse(self):
        self.status = 503


class Client:
    """A partner: asks for profiles over and over, and polls."""

    def __init__(self, api, sandbox, partner):
        self.api, self.sandbox, self.partner = api, sandbox, partner
        self.word, self.pause, self.count = "calm", 0.5, 0
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.go_on, daemon=True) for _ in range(8)]
        for thread in self.threads:
            thread.start()

    def go_on(self):
        while not self.stopped.wait(self.pause):
            self.count += 1
            # Every other wish is for a profile that is known already, and ends without a call.
            who = f"{self.word}{self.count}" if self.count % 2 else "known"
            wish = {"url": f"https://www.tiktok.com/@{who}", "callbackUrl": f"{self.sandbox}/partner/callbacks/told"}
            headers = {"Content-Type": "application/json", "X-Partner-ID": self.partner["partnerId"],
                       "X-API-Key": self.partner["apiKey"]}
            request = urllib.request.Request(f"{self.api}/api/v1/profiles/enrich", json.dumps(wish).encode(), headers)
            try:
                urllib.request.urlopen(request, timeout=ANSWER_S_MAX).read()
            except OSError:
                pass

    def stop(self):
        self.stopped.set()
        for thread in self.threads:
            thread.join()


class Alerts:
    """What Prometheus fires, noted as it comes."""

    def __init__(self, url):
        self.url = url
        self.fired = {}
        self.began = time.monotonic()
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.stopped.wait(0.5):
            try:
                answer = json.loads(get(f"{self.url}/api/v1/alerts"))
            except (OSError, ValueError):
                continue
            for alert in answer["data"]["alerts"]:
                if alert["state"] == "firing":
                    name = alert["labels"]["alertname"]
                    if name not in self.fired:
                        self.fired[name] = alert
                        print(f"  {time.monotonic() - self.began:5.1f} s  {name}: {alert['annotations']['summary']}",
                              flush=True)

    def wait_for(self, *names):
        until(f"the alerts {sorted(set(names) - self.fired.keys())}", lambda: self.fired.keys() >= set(names), FIRES_S_MAX)


def faster(rules):
    """Every minute a second, every hour a minute."""
    def unit(found):
        return found.group(1) + {"m": "s", "h": "m"}[found.group(2)]
    rules = re.sub(r"(?<=\[)(\d+)([mh])(?=\])", unit, rules)
    rules = re.sub(r"(?<=offset )(\d+)([mh])\b", unit, rules)
    rules = re.sub(r"(?<=for: )(\d+)([mh])\b", unit, rules)
    rules = re.sub(r"\b(\d+) \* 60\b", r"\1", rules)
    for high, low in LOWERED.items():
        assert rules.count(high) == 1, high
        rules = rules.replace(high, low)
    return rules


class Installation:
    def __init__(self, binary, folder):
        self.binary, self.folder = binary, folder
        self.processes = Processes(folder)
        start, ready = self.processes.start, self.processes.ready_url
        start("postgres", binary, "serve-postgres", "--data-dir", str(folder / "data"), "--not-durable")
        start("sandbox", binary, "sandbox", "--listen", "127.0.0.1:0")
        self.database = Database(ready("postgres"))
        self.sandbox = ready("sandbox")
        self.collector = Collector()
        key = subprocess.run([binary, "config", "--generate-key"], check=True, capture_output=True, text=True).stdout
        self.variables = {
            "DATABASE_URL": self.database.url,
            "MILLPOND_ENCRYPTION__KEYS": key.strip(),
            "MILLPOND_METER__URL": f"{self.sandbox}/meter",
            "MILLPOND_METER__TOKEN": "sandbox-token",
            "MILLPOND_WEBHOOKS__ALLOW_LOOPBACK": "true",
            "MILLPOND_QUEUE__LEASE_MS": str(LEASE_MS),
            "MILLPOND_QUEUE__SWEEP_MS": "300",
            "MILLPOND_DATABASE__CONNECTIONS_MAX": "14",
            "MILLPOND_DATABASE__ACQUIRE_TIMEOUT_MS": "1000",
            "MILLPOND_HTTP__REQUEST_TIMEOUT_MS": "2000",
            "MILLPOND_HTTP__WAIT_S_MAX": "1",
            "MILLPOND_TRACE__ENDPOINT": self.collector.url,
            "MILLPOND_TRACE__SAMPLE_RATIO": "1",
        }
        self.run("migrate")
        self.targets = {}
        start("api", binary, "api", "--listen", "127.0.0.1:0", **self.variables)
        self.api = ready("api")
        self.targets["api"] = self.api.removeprefix("http://")
        self.worker("crawler", "enrich")
        self.worker("courier", "webhooks,maintenance")
        self.role("scheduler", "scheduler")
        for target in self.targets.values():
            until(f"http://{target} to show metrics", lambda target=target: get(f"http://{target}/metrics"))
        until("a leader", lambda: any("millpond_leader 1" in get(f"http://{self.targets[name]}/metrics")
                                      for name in ["crawler", "courier"]))
        partner = self.run("partners", "create", "--code", "alerts", "--name", "Alerts", "--subscription", "premium",
                           "--rate-limit", "1000000", "--json")
        self.client = Client(self.api, self.sandbox, json.loads(partner))
        prometheus = self.prometheus()
        # Until everybody was read once, some seem to be missing.
        until("a leader in Prometheus", lambda: '"1"]' in get(f"{prometheus}/api/v1/query?query=sum(millpond_leader)"))
        until("no alert to fire", lambda: '"firing"' not in get(f"{prometheus}/api/v1/alerts"))
        self.alerts = Alerts(prometheus)

    def run(self, *arguments):
        ran = subprocess.run([self.binary, *arguments], capture_output=True, text=True, timeout=READY_S_MAX,
                             env={**os.environ, **self.variables})
        if ran.returncode != 0:
            raise Failed(f"millpond {' '.join(arguments)}: {ran.stderr}")
        return ran.stdout

    def role(self, name, *arguments):
        port = free_port()
        self.targets[name] = f"127.0.0.1:{port}"
        self.processes.start(name, self.binary, *arguments, **self.variables,
                             MILLPOND_METRICS__LISTEN=self.targets[name])

    def worker(self, name, queues):
        self.role(name, "worker", "--queues", queues)

    def prometheus(self):
        folder, port = self.folder / "prometheus", free_port()
        folder.mkdir()
        (folder / "alerts.yml").write_text(faster(RULES.read_text()))
        targets = [{"targets": [target], "labels": {"role": name}} for name, target in self.targets.items()]
        # JSON is YAML.
        (folder / "prometheus.yml").write_text(json.dumps({
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "rule_files": ["alerts.yml"],
            "scrape_configs": [{"job_name": "millpond", "static_configs": targets}],
        }))
        subprocess.run(["promtool", "check", "config", str(folder / "prometheus.yml")], check=True, capture_output=True)
        self.processes.start("prometheus", "prometheus", f"--config.file={folder}/prometheus.yml",
                             f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}")
        url = f"http://127.0.0.1:{port}"
        until("Prometheus", lambda: get(f"{url}/-/ready"))
        return url

    def sandbox_control(self, control, value):
        request = urllib.request.Request(f"{self.sandbox}/_sandbox/{control}", json.dumps(value).encode(),
                                         {"Content-Type": "application/json"}, method="PUT")
        urllib.request.urlopen(request, timeout=ANSWER_S_MAX).read()

    def faults(self, *rules):
        self.sandbox_control("faults", {"rules": list(rules)})

    def end(self):
        self.client.stop()
        self.alerts.stopped.set()
        self.database.leave()
        self.processes.end()


def of_vendor(fault):
    return {"vendor": "meter", "fault": fault}


def of_partner(fault):
    return {"vendor": "partner", "fault": fault}


POISON = """
create function refuse() returns trigger language plpgsql as $$ begin raise exception 'refused by a test'; end $$;
create trigger refuse before insert on jobs_finished for each row when (new.kind = 'test.poison') execute function refuse();
insert into jobs (tenant_id, id, lane, share_id, queue, kind, state, run_at, attempts_max, deadline_at, args)
select '00000000-0000-0000-0000-000000000000', gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'maintenance',
    'test.poison', 'scheduled', now() + interval '1 hour', 1, now(), '{}'
"""
LATE_TICKS = """
update schedules set ticked_until = now() - interval '6 hours', next_at = now() - interval '5 hours 30 minutes'
"""
BURN = f"do $$ begin for n in 1..{TRANSACTIONS} loop perform txid_current(); commit; end loop; end $$"
DEAD_ROWS = """
insert into worker_processes (id, host, pid, queues, heartbeat_at)
select gen_random_uuid(), 'test', 0, '{}', now() from generate_series(1, 45000);
delete from worker_processes where host = 'test'
"""
OVERFLOW = """
insert into jobs_finished (tenant_id, id, lane, share_id, created_at, finished_at, ended, priority, attempt, attempts_max,
    taken_back, queue, kind, args)
select gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), now(), now() + interval '1 year',
    'completed', 0, 1, 1, 0, 'maintenance', 'test.early', '{}'
"""


def cause(millpond):
    """Each condition, and the alerts that tell of it. What takes longest begins first."""
    database, alerts, processes, client = millpond.database, millpond.alerts, millpond.processes, millpond.client

    print("an operator forgets a pause; history overflows; upkeep breaks; visitors stay", flush=True)
    millpond.run("queues", "pause", "maintenance")
    database.run(OVERFLOW)
    database.run(POISON)
    database.visit("select count(*) from jobs", 120)
    database.run(BURN)
    database.run(DEAD_ROWS)
    database.connect(SESSIONS)
    millpond.collector.refuse()
    database.run(LATE_TICKS)

    print("the vendor fails, and a receiver wants no callbacks", flush=True)
    client.pause, client.word = 0.2, "failing"
    millpond.faults(of_vendor({"kind": "status", "status": 500}), of_partner({"kind": "status", "status": 410}))
    alerts.wait_for("MillpondVendorFailing", "MillpondAttemptsFailing", "MillpondCallbacksFailing", "MillpondJobsDying",
                    "MillpondOldTransaction", "MillpondConnectionsUsedUp", "MillpondUpkeepFailing", "MillpondTracesLost")
    for session in database.sessions:
        session.close()
    database.run(LATE_TICKS)

    print("the vendor has had enough", flush=True)
    client.word = "limited"
    millpond.faults(of_vendor({"kind": "status", "status": 429, "retryAfter": "1"}))
    alerts.wait_for("MillpondVendorLimited")

    print("a limit leaves no room", flush=True)
    client.word = "held"
    millpond.faults()
    database.run("update job_limits set max = 0, edited = true")
    alerts.wait_for("MillpondLimitExhausted", "MillpondQueueStuck", "MillpondQueueGrowing", "MillpondHorizonHeld",
                    "MillpondDeadRows", "MillpondWraparound", "MillpondHistoryWeekMissing", "MillpondTicksMissed",
                    "MillpondTicksLate", "MillpondQueuePaused")

    print("somebody locks a table that every request reads", flush=True)
    lock = database.visit("lock table partners in access exclusive mode", 60)
    alerts.wait_for("MillpondPoolExhausted", "MillpondApiErrors", "MillpondApiSlow", "MillpondApiShedding")
    lock.terminate()
    lock.wait()

    print("a worker is frozen for longer than its lease", flush=True)
    processes.signal("courier", signal.SIGSTOP)
    time.sleep(2 * LEASE_MS / 1_000)
    processes.signal("courier", signal.SIGCONT)
    alerts.wait_for("MillpondLeasesLost")

    print("a worker is killed at work, and nobody works its queue", flush=True)
    millpond.faults(of_vendor({"kind": "latency", "ms": 20_000}))
    database.run("update job_limits set max = 1000000, edited = true")
    until("calls under way", lambda: re.search(r'^millpond_worker_slots_used\{queue="enrich"\} [1-9]',
                                              get(f"http://{millpond.targets['crawler']}/metrics"), re.M))
    processes.kill("crawler")
    alerts.wait_for("MillpondJobsTakenBack", "MillpondNoWorkers", "MillpondProcessDown")

    print("no scheduler and no worker is left", flush=True)
    processes.kill("scheduler")
    processes.kill("courier")
    alerts.wait_for("MillpondSchedulerNotLooking", "MillpondNoLeader")


def main(binary, folder=None):
    began = time.monotonic()
    made = None
    if folder is None:
        folder = made = tempfile.mkdtemp()
        os.chmod(folder, 0o711)
    binary, folder = str(pathlib.Path(binary).resolve()), pathlib.Path(folder).resolve()
    folder.mkdir(mode=0o711, exist_ok=True)
    expected = set(re.findall(r"^ *- alert: (\w+)$", RULES.read_text(), re.M))
    millpond = None
    try:
        millpond = Installation(binary, folder)
        print(f"all runs after {time.monotonic() - began:.0f} s; all is well for {WELL_S} s", flush=True)
        time.sleep(WELL_S)
        if millpond.alerts.fired:
            raise Failed(f"these fired although all was well: {sorted(millpond.alerts.fired)}")
        cause(millpond)
        if missing := expected - millpond.alerts.fired.keys():
            raise Failed(f"nobody caused {sorted(missing)}")
    except (Failed, subprocess.SubprocessError, urllib.error.URLError) as failure:
        print(f"FAILED: {failure}", file=sys.stderr)
        for error in sorted(folder.glob("*.err")):
            lines = error.read_text(errors="replace").splitlines()[-8:]
            print(f"--- {error.name}\n" + "\n".join(line[:300] for line in lines), file=sys.stderr)
        return 1
    finally:
        if millpond:
            millpond.end()
        if made:
            shutil.rmtree(made, ignore_errors=True)
    print(f"{len(expected)} alerts fired when they were caused, none before, in {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
