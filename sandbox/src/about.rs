//! What a person or a probe finds at the sandbox's own addresses, and the answers for those that do not exist.

use axum::http::{Method, StatusCode, Uri};
use axum::response::Response;

use crate::json::{self, Refusal};

const INDEX: &str = "\
Millpond's sandbox: fakes of the systems Millpond talks to. Nothing here is real.

The profile meter (docs/vendors/meter.md), with the sandbox's bearer token:
  POST   /meter/v1/profiles/enrich       {\"url\": \"https://www.tiktok.com/@amy.codes\"}
  GET    /meter/v1/profiles/{profileId}
  POST   /meter/v1/profiles/refresh      {\"profileIds\": [\"vb_prof_...\"]}
  Handles that begin with `private` are private, those that begin with `missing` do not exist.

A partner's webhook receiver:
  POST   /partner/callbacks/{inbox}      records the headers and the raw body
  GET    /_sandbox/callbacks/{inbox}     ?after=SEQUENCE&limit=N
  GET    /_sandbox/callbacks             the inboxes and their counts
  DELETE /_sandbox/callbacks             forgets them all

A mail server, on a port of its own (`millpond sandbox` and `millpond up` say which); what it took is here:
  GET    /mailbox                        the addresses and their counts
  GET    /mailbox/{address}              the mail to an address, the oldest first
  GET    /mailbox/{address}/latest
  DELETE /mailbox                        forgets it all

An OpenID provider for single sign-on; the client is `millpond`, its secret the sandbox's token:
  GET    /oidc/.well-known/openid-configuration
  GET    /oidc/authorize                 with login_hint=EMAIL nobody is asked; `unverified...` is not verified
  POST   /_sandbox/oidc/rotate           another key

What was called (filters: vendor, operation, handle):
  GET    /_sandbox/calls
  DELETE /_sandbox/calls

Faults on demand; PUT replaces all rules, the first rule that applies wins:
  GET, PUT, DELETE /_sandbox/faults
  {\"seed\": 1, \"rules\": [
    {\"vendor\": \"meter\", \"operation\": \"enrich\", \"handle\": \"amy.codes\", \"share\": 0.3, \"first\": 2,
     \"fault\": {\"kind\": \"status\", \"status\": 429, \"retryAfter\": \"2\"}}]}
  All but `fault` is optional. share: part of the calls, 0 to 1. first: stops after so many faults. firstOfHandle: only
  the first so many calls of each handle.
  kinds: latency {ms, jitterMs}, status {status, retryAfter, location}, truncated, malformed, hang, drop,
         oversized {bytes}, slow_body {ms}, id_token {wrong: signature, unknown_key, unsigned, symmetric, tampered,
         issuer, audience, two_audiences, authorized_party, expired, old, nonce, no_nonce, garbage or missing}
  vendors and operations: meter enrich, get, refresh_batch; partner callback (its handle is the inbox);
         smtp connect, recipient, message (the handle is the address; a status is a reply's code, such as 451);
         oidc discovery, jwks, authorize, token, userinfo

The meter's window (per clock minute):
  GET, PUT /_sandbox/limits              {\"callsMax\": 600, \"windowMs\": 60000, \"concurrentMax\": 20}

  GET    /health
";

pub(crate) async fn index() -> &'static str {
    INDEX
}

pub(crate) async fn health() -> Response {
    json::answer(StatusCode::OK, &serde_json::json!({"status": "ok"}))
}

pub(crate) async fn unknown_route(uri: Uri) -> Refusal {
    let message = format!("nothing is at {}; GET / lists what there is", json::shortened(uri.path(), 200));
    Refusal::new(StatusCode::NOT_FOUND, "unknown_route", message)
}

pub(crate) async fn method_not_allowed(method: Method, uri: Uri) -> Refusal {
    let message = format!("{method} is not possible at {}", json::shortened(uri.path(), 200));
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", message)
}
