"""Has Schemathesis (PyPI: schemathesis) ask every operation of the control surface and of partners, as whoever may ask
them and as nobody.

    schemathesis_check.py MILLPOND FOLDER [EXAMPLES]

MILLPOND is the binary; FOLDER is empty or new, passable by everybody (PostgreSQL does not run as root). It starts the
sandbox and `up` on a database of its own. The first person comes in by the sandbox's single sign-on, as an admin,
and makes the others; a partner has jobs that ended well and badly, so that there is something to see.

Ends 0 when no answer was a 5xx, had a status or a content type that the document does not name, or did not fit its schema.
What is asked follows from a fixed seed. Streams of events never end, and whoever stops the only worker stops what is
asked: both have tests of their own.
"""

import http.client
import json
import os
import pathlib
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request

PEOPLES_PATHS = "^/api/v1/(admin|ops)/"
PARTNERS_PATHS = "^/api/v1/(jobs|partners|profiles)"
PATHS = f"{PEOPLES_PATHS}|{PARTNERS_PATHS}"
CHECKS = ("not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
          "response_schema_conformance")
PHASES = "examples,coverage,fuzzing"
SEED = "20261122"
EXAMPLES = "40"
READY_S_MAX = 180
RUN_S_MAX = 240
ANSWER_S_MAX = 30
PASSWORD = "correct horse battery"
# Schemathesis finds the ids of what is there, and would use them.
NOT_ASKED = ["stopWorker"]
# The job that is known has ended, and is not called off. What the filter of a bulk change may hold the document says in
# words alone: most that are made up are refused. Of the creators that were enriched none is public. Nobody guesses the id
# of a key.
NEVER_DONE = {"callJobOff", "cancelJob", "requestInfluencers", "revokePartnerKey", "startBulk"}
METHODS = ("get", "put", "post", "patch", "delete")


class Failed(Exception):
    pass


def environment(**variables):
    """What the machine's user has set must not decide the outcome."""
    kept = {key: value for key, value in os.environ.items()
            if not key.startswith(("MILLPOND_", "PG")) and key != "DATABASE_URL"}
    return {**kept, **variables}


class Processes:
    """Those that were started here, ended by their ids."""

    def __init__(self, folder):
        self.folder = folder
        self.running = []

    def start(self, name, *command, **variables):
        with open(self.folder / f"{name}.out", "wb") as out, open(self.folder / f"{name}.err", "wb") as err:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                                       env=environment(**variables))
        self.running.append(process)
        return self.ready_url(name, process)

    def ready_url(self, name, process):
        deadline = time.monotonic() + READY_S_MAX
        while True:
            found = re.search(r"^ready .*?url=(\S+)", (self.folder / f"{name}.out").read_text(), re.M)
            if found:
                return found.group(1)
            if process.poll() is not None or time.monotonic() > deadline:
                raise Failed(f"{name} was not ready: {(self.folder / f'{name}.err').read_text()[-3000:]}")
            time.sleep(0.1)

    def end(self):
        for process in reversed(self.running):
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ask(method, url, body=None, **headers):
    """The status, headers and text of an answer; nobody is followed anywhere."""
    where = urllib.parse.urlsplit(url)
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=ANSWER_S_MAX)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        headers["Content-Type"] = "application/json"
        body = json.dumps(body)
    connection.request(method, f"{where.path}?{where.query}", body, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, answer.headers, text


def expect(status, answer):
    if answer[0] != status:
        raise Failed(f"answered {answer[0]} instead of {status}: {answer[2][:500]}")
    return answer


def first_admin(url):
    """Signs in at the sandbox's provider, as a browser does, and answers the session's cookie."""
    _, begun, _ = expect(303, ask("GET", f"{url}/api/v1/session/oidc"))
    pending = begun["Set-Cookie"].split(";")[0]
    _, consented, _ = expect(303, ask("GET", begun["Location"] + "&login_hint=first@example.com"))
    _, signed_in, _ = expect(303, ask("GET", consented["Location"], Cookie=pending))
    cookies = [cookie.split(";")[0] for cookie in signed_in.get_all("Set-Cookie")]
    return next(cookie for cookie in cookies if cookie.startswith("__Host-millpond="))


def people(url):
    """A bearer token for each role."""
    admin = {"Cookie": first_admin(url), "Sec_Fetch_Site": "same-origin"}
    tokens = {}
    for role in ("viewer", "operator", "admin"):
        email = f"{role}@example.com"
        expect(201, ask("POST", f"{url}/api/v1/ops/users", {"email": email, "role": role, "password": PASSWORD}, **admin))
        sign_in = {"email": email, "password": PASSWORD, "kind": "token"}
        answer = expect(200, ask("POST", f"{url}/api/v1/session", sign_in))
        tokens[role] = json.loads(answer[2])["data"]["token"]
    return tokens


def jobs(millpond, url, folder):
    """A partner whose jobs ended well and badly; answers its credentials and a job that failed."""
    command = [millpond, "partners", "create", "--code", "schemathesis", "--name", "Schemathesis",
               "--subscription", "premium", "--rate-limit", "1000000", "--json"]
    made = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60,
                          env=environment(MILLPOND_DATA__DIR=str(folder / "data")))
    partner = json.loads(made.stdout)
    headers = {"X_Partner_ID": partner["partnerId"], "X_API_Key": partner["apiKey"]}
    for name in ("amy.codes", "bob", "missing.carl"):
        body = {"url": f"https://www.tiktok.com/@{name}"}
        expect(202, ask("POST", f"{url}/api/v1/profiles/enrich", body, **headers))
    deadline = time.monotonic() + ANSWER_S_MAX
    while True:
        listed = json.loads(expect(200, ask("GET", f"{url}/api/v1/jobs", **headers))[2])["data"]
        if all(job["status"] in ("completed", "failed") for job in listed):
            failed = next(job.get("jobId") or job["id"] for job in listed if job["status"] == "failed")
            return headers, failed
        if time.monotonic() > deadline:
            raise Failed(f"jobs did not end: {listed}")
        time.sleep(0.2)


def streams(document):
    """Operations whose answers never end."""
    for path, item in document["paths"].items():
        for method in METHODS:
            operation = item.get(method, {})
            contents = [kind for response in operation.get("responses", {}).values()
                        for kind in response.get("content", {})]
            if "text/event-stream" in contents:
                yield operation["operationId"]


def known_ids(url, token, failed_job, document):
    """Names of what is there, for the gaps of paths, as Schemathesis' settings take them. People and partners are changed who do
    not ask."""
    def first(path, key):
        answer = expect(200, ask("GET", f"{url}{path}", Authorization=f"Bearer {token}"))
        return json.loads(answer[2])["data"][0][key]

    other = {"email": "other@example.com", "role": "viewer"}
    made = expect(201, ask("POST", f"{url}/api/v1/ops/users", other, Authorization=f"Bearer {token}"))
    other = {"code": "other", "name": "Other"}
    expect(201, ask("POST", f"{url}/api/v1/admin/partners", other, Authorization=f"Bearer {token}"))
    there = {
        "/api/v1/admin/partners/{id}": "other",
        "/api/v1/admin/pool/influencers/{id}": first("/api/v1/admin/pool/influencers", "id"),
        "/api/v1/jobs/{id}": failed_job,
        "/api/v1/ops/jobs/{id}": failed_job,
        "/api/v1/ops/users/{id}": json.loads(made[2])["data"]["id"],
        "/api/v1/ops/schedules/{name}": first("/api/v1/ops/schedules", "name"),
        "/api/v1/ops/workers/{id}": first("/api/v1/ops/workers", "id"),
    }
    lines = []
    for path, item in document["paths"].items():
        known = next((name for start, name in there.items() if path.startswith(start)), None)
        gap = known and re.search(r"{(\w+)}", path).group(1)
        for method in METHODS if known else ():
            # Something is left to be looked at by those who come later.
            if method in item and method != "delete":
                lines += ["[[operations]]", f'include-name = "{method.upper()} {path}"',
                          f"parameters = {{ {gap} = {json.dumps(known)} }}"]
    return "\n".join(lines) + "\n"


def paths_of(role):
    return {"nobody": PATHS, "partner": PARTNERS_PATHS}.get(role, PEOPLES_PATHS)


def run(role, url, folder, headers, left_out, examples):
    st = pathlib.Path(sys.executable).parent / "st"
    command = [st, "--config-file", folder / "schemathesis.toml", "run", f"{url}/api-docs/openapi.json",
               "--include-path-regex", paths_of(role), "--checks", CHECKS, "--phases", PHASES, "--max-examples", examples,
               "--seed", SEED, "--generation-database", "none", "--request-timeout", str(ANSWER_S_MAX), "--workers", "1",
               "--suppress-health-check", "all", "--no-color", "--warnings", "off", "--continue-on-failure"]
    for operation in left_out:
        command += ["--exclude-operation-id", operation]
    for name, value in headers.items():
        command += ["--header", f"{name.replace('_', '-')}: {value}"]
    began = time.monotonic()
    ended = subprocess.run(command, capture_output=True, text=True, timeout=RUN_S_MAX, cwd=folder)
    print(f"as {role}: {time.monotonic() - began:.0f} s, status {ended.returncode}")
    print("\n".join(ended.stdout.splitlines()[-12:]) if ended.returncode == 0 else ended.stdout + ended.stderr)
    return ended.returncode == 0


def never_done(document, folder, left_out):
    """Operations that were asked and never carried out, by the log of requests: of them nothing was seen but refusals."""
    done = set()
    for line in (folder / "up.err").read_text().splitlines():
        entry = json.loads(line) if line.startswith("{") else {}
        if entry.get("message") == "answered" and entry["http.status"] < 300:
            methods = [span["http.method"] for span in entry["spans"] if "http.method" in span]
            done.update((method.lower(), entry["http.route"]) for method in methods)
    for path, item in document["paths"].items():
        for method in METHODS:
            operation = item.get(method, {}).get("operationId")
            if re.search(PATHS, path) and operation and operation not in left_out and (method, path) not in done:
                yield operation


def main(millpond, folder, examples):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o711)
    processes = Processes(folder)
    try:
        sandbox = processes.start("sandbox", millpond, "sandbox", "--listen", "127.0.0.1:0")
        url = processes.start(
            "up", millpond, "up", "--listen", "127.0.0.1:0", MILLPOND_DATA__DIR=str(folder / "data"),
            MILLPOND_OIDC__ISSUER=f"{sandbox}/oidc", MILLPOND_OIDC__CLIENT_ID="millpond",
            MILLPOND_OIDC__CLIENT_SECRET="sandbox-token", MILLPOND_OIDC__DEFAULT_ROLE="admin",
            MILLPOND_OIDC__ALLOWED_DOMAINS="example.com")
        tokens = people(url)
        partner, failed_job = jobs(millpond, url, folder)
        document = json.loads(expect(200, ask("GET", f"{url}/api-docs/openapi.json"))[2])
        (folder / "schemathesis.toml").write_text(known_ids(url, tokens["admin"], failed_job, document))
        left_out = NOT_ASKED + list(streams(document))
        askers = {"nobody": {}, "partner": partner}
        askers |= {role: {"Authorization": f"Bearer {token}"} for role, token in tokens.items()}
        passed = [run(role, url, folder, headers, left_out, examples) for role, headers in askers.items()]
        if not all(passed):
            raise Failed("see above")
        for role, token in tokens.items():
            # Otherwise much of what was asked was asked by nobody.
            expect(200, ask("GET", f"{url}/api/v1/session", Authorization=f"Bearer {token}"))
        refused = sorted(set(never_done(document, folder, left_out)) - NEVER_DONE)
        if refused:
            raise Failed(f"only refusals were seen of {', '.join(refused)}")
    finally:
        processes.end()


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else EXAMPLES)
    except Failed as failed:
        sys.exit(f"schemathesis: {failed}")
