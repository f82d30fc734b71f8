"""Asks a running Millpond for profiles and verifies every callback with the public reference library of Standard
Webhooks (PyPI: standardwebhooks), which shares no code with ours.

    standardwebhooks_check.py URL PARTNER_FILE [REQUESTS] [PROFILES]

URL is what `up` prints after `ready url=`, started with the sandbox; PARTNER_FILE holds what
`millpond partners create … --json` printed. Ends 0 when each accepted job was called back, every callback verified,
repeats had one id and one body, and every job ended as its profile should.
"""

import json
import sys
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks import Webhook
from standardwebhooks.webhooks import WebhookVerificationError

CLIENTS = 16
WAIT_S_MAX = 240
ANSWER_S_MAX = 30
# The sandbox has no profile of such a name; its jobs must fail, and say so in a signed callback too.
MISSING_EVERY = 10


class Inbox:
    """Every callback that arrived, by job: the set of its (webhook-id, body) pairs, and what did not verify."""

    def __init__(self, secret):
        self.webhook = Webhook(secret)
        self.changed = threading.Condition()
        self.callbacks = {}
        self.faults = []

    def take(self, headers, body):
        try:
            told = self.webhook.verify(body, headers)
            self.refuses_what_was_changed(headers, body)
            with self.changed:
                self.callbacks.setdefault(told["jobId"], set()).add((headers["webhook-id"], body))
                self.changed.notify_all()
        except (WebhookVerificationError, ValueError, KeyError, AssertionError) as fault:
            with self.changed:
                self.faults.append(f"{fault!r} in {body[:200]!r}")
                self.changed.notify_all()

    def refuses_what_was_changed(self, headers, body):
        try:
            self.webhook.verify(body + b" ", headers)
        except WebhookVerificationError:
            return
        raise AssertionError("a changed body verified too")

    def wait_for(self, jobs):
        deadline = time.monotonic() + WAIT_S_MAX
        with self.changed:
            while not self.faults and not jobs <= self.callbacks.keys():
                left = deadline - time.monotonic()
                if left <= 0:
                    return
                self.changed.wait(left)


def receiver(inbox):
    class Receiver(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            inbox.take({name.lower(): value for name, value in self.headers.items()}, body)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 512

    server = Server(("127.0.0.1", 0), Receiver)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/callbacks"


def ask(url, partner, callback, number):
    word = "missing" if number % MISSING_EVERY == 0 else "creator"
    wish = {"url": f"https://www.tiktok.com/@{word}.check{number}", "callbackUrl": callback}
    headers = {
        "Content-Type": "application/json",
        "X-Partner-ID": partner["partnerId"],
        "X-API-Key": partner["apiKey"],
    }
    request = urllib.request.Request(f"{url}/api/v1/profiles/enrich", json.dumps(wish).encode(), headers)
    with urllib.request.urlopen(request, timeout=ANSWER_S_MAX) as answer:
        assert answer.status == 202, answer.status
        return json.load(answer)["jobId"], "failed" if word == "missing" else "completed"


def main(url, partner_file, requests=1000, profiles=50):
    with open(partner_file, encoding="utf-8") as file:
        partner = json.load(file)
    requests, profiles = int(requests), int(profiles)
    inbox = Inbox(partner["webhookSecret"])
    callback = receiver(inbox)

    began = time.monotonic()
    with ThreadPoolExecutor(CLIENTS) as clients:
        asked = clients.map(lambda n: ask(url, partner, callback, n % profiles), range(requests))
        expected = dict(asked)
    inbox.wait_for(expected.keys())
    took = time.monotonic() - began

    faults = list(inbox.faults)
    if len(expected) != requests:
        faults.append(f"{requests} requests gave {len(expected)} job ids")
    for job, status in expected.items():
        callbacks = inbox.callbacks.get(job, set())
        statuses = {json.loads(body)["status"] for _, body in callbacks}
        if len(callbacks) != 1:
            faults.append(f"{job}: {len(callbacks)} different callbacks")
        elif statuses != {status}:
            faults.append(f"{job}: {statuses} instead of {status}")
    faults.extend(f"{job}: nobody asked for it" for job in inbox.callbacks.keys() - expected.keys())
    for fault in faults[:20]:
        print(fault, file=sys.stderr)
    print(f"{requests} requests for {profiles} profiles: {len(inbox.callbacks)} jobs called back in {took:.1f} s, "
          f"{len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
