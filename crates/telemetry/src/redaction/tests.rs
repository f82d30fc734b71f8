use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

/// What must go, and a part of it that must not be left.
const PLANTED: &[(&str, &str)] = &[
    ("amycodes@mail.example.net", "amycodes"),
    ("größe.straße@bücher.example", "größe"),
    ("amy.codes+brand%40example.com", "amy.codes"),
    ("+1 202 555 0123", "555"),
    ("+84901234567", "84901"),
    ("+44 (0)20 7946 0018", "7946"),
    ("(202) 555-0123", "0123"),
    ("202-555-0123", "0123"),
    ("0901 234 567", "234"),
    ("0901234567", "0901"),
    ("Bearer abc.def-ghi_jkl", "abc.def"),
    ("authorization: Basic dXNlcjpwYXNzd29yZA==", "dXNlcjp"),
    ("mpk_0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM", "0123456789abcdef"),
    ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8GKY"),
    ("postgres://millpond:hunter2@db.internal:5432/pond", "hunter2"),
    ("https://user:p4ss@proxy.example/x", "p4ss"),
    ("postgres:///pond?host=/tmp&password=hunter2", "hunter2"),
    ("k1:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=", "AAECAwQFBgc"),
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "c2lnbmF0dXJl"),
    ("-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIIrYSSNQ\n-----END EC PRIVATE KEY-----", "MHcCAQEE"),
    ("password=hunter2", "hunter2"),
    ("Login { user: \"amy\", password: Some(\"hunter 2\") }", "hunter"),
    ("{\"api_key\":\"hunter2\"}", "hunter2"),
    ("x-api-key: hunter2", "hunter2"),
    ("cookie: session=hunter2; theme=hunter3", "hunter"),
    ("meter.token = 'hunter2'", "hunter2"),
    ("client_secret=hunter2&grant_type=x", "hunter2"),
    ("MILLPOND_ENCRYPTION__KEYS and encryption.keys=hunter2", "hunter2"),
];

/// What must stay as it is.
const HARMLESS: &[&str] = &[
    "2026-11-22T07:49:25.123456Z",
    "job_01kagqthv7e9hb7q4rj0a3mz5c",
    "019a2f3c-7c1e-7b55-8c13-0901234567ab",
    "4bf92f3577b34da6a3ce929d0e0e4736",
    "00f067aa0ba902b7",
    "http://127.0.0.1:54329/api/v1/jobs?status=queued",
    "https://www.tiktok.com/@amy.codes",
    "duration_ms=0.0901234567",
    "duration_ms=1234.567 http.status=202",
    "prune@2026-11-20T21:00:00+00:00",
    "postgres://postgres@127.0.0.1:54329/wt",
    "rows=1234567890 bytes=16777216",
    "192.168.100.200",
    "version 0.33.1, 1.2.3-4567",
    "mpk_01234567…",
    "crates/telemetry/src/logs.rs:12:5",
    "the lease was lost",
    "1.5e+10",
];

#[test]
fn what_nobody_should_read_does_not_come_out_of_a_text() {
    for (planted, part) in PLANTED {
        for text in
            [(*planted).to_owned(), format!("before {planted} after"), format!("error: \"{planted}\"")]
        {
            let clean = redact(&text);
            assert!(!clean.contains(part), "{text} became {clean}");
            assert!(clean.contains(MASK), "{text} became {clean}");
        }
    }
}

#[test]
fn ids_times_and_numbers_stay_as_they_are() {
    for text in HARMLESS {
        assert_eq!(redact(text), *text);
        assert!(matches!(redact(&format!("seen: {text}, and more")), Cow::Borrowed(_)), "{text}");
    }
}

#[test]
fn a_json_line_stays_json_and_only_loses_what_it_should() {
    let line = json!({
        "timestamp": "2026-11-22T07:49:25.123456Z", "level": "INFO", "rows": 901_234_567,
        "token": 7, "password": "hunter2", "headers": { "Set-Cookie": ["a=hunter2"] },
        "message": "it said:\n0901234567\nand \"bearer abcdefgh\"",
        "spans": [{ "request.id": "amy@example.com", "job.id": "job_01kagqthv7e9hb7q4rj0a3mz5c" }],
    });
    let clean = json_line(&format!("{line}\n")).into_owned();
    assert!(clean.ends_with("}\n") && clean.matches('\n').count() == 1);
    let clean: Value = serde_json::from_str(&clean).unwrap();
    let wanted = json!({
        "timestamp": "2026-11-22T07:49:25.123456Z", "level": "INFO", "rows": 901_234_567,
        "token": 7, "password": MASK, "headers": { "Set-Cookie": MASK },
        "message": "it said:\n[redacted]\nand \"bearer [redacted]\"",
        "spans": [{ "request.id": MASK, "job.id": "job_01kagqthv7e9hb7q4rj0a3mz5c" }],
    });
    assert_eq!(clean, wanted);
}

#[test]
fn what_is_no_json_and_suspicious_is_left_out_whole() {
    let line = json_line("{\"message\": \"password=hunter2\n");
    assert!(serde_json::from_str::<Value>(&line).is_ok() && !line.contains("hunter2"), "{line}");
}

#[test]
fn a_text_line_stays_one_line() {
    let forged = "it failed\n2026-11-22 INFO everything is fine\r\u{2028}\u{85}\u{7}\n";
    assert_eq!(
        text_line(forged),
        "it failed\\n2026-11-22 INFO everything is fine\\r\\u{2028}\\u{85}\\u{7}\n"
    );
    let coloured = "\u{1b}[3mpassword\u{1b}[0m\u{1b}[2m=\u{1b}[0mhunter2\n";
    assert_eq!(text_line(coloured), "\u{1b}[3mpassword\u{1b}[0m\u{1b}[2m=\u{1b}[0m[redacted]\n");
}

fn planted() -> impl Strategy<Value = (&'static str, &'static str)> {
    proptest::sample::select(PLANTED)
}

proptest! {
    #[test]
    fn nothing_planted_comes_out_of_a_json_line_which_stays_json(
        (planted, part) in planted(),
        before in "\\PC{0,20}[ \n\t:({]",
        after in "([ \n\t,)}]\\PC{0,20})?",
        name in "[a-z.]{1,12}",
    ) {
        let line = json!({ "level": "INFO", "fields": { name: format!("{before}{planted}{after}") } });
        let clean = json_line(&format!("{line}\n")).into_owned();
        prop_assert!(!clean.contains(part), "{} became {}", line, clean);
        prop_assert!(serde_json::from_str::<Value>(&clean).is_ok(), "{}", clean);
        prop_assert_eq!(clean.matches('\n').count(), 1);
    }

    #[test]
    fn nothing_planted_comes_out_of_a_text_line_which_stays_one(
        (planted, part) in planted(),
        before in "\\PC{0,20}[ \n\t:({]",
        after in "([ \n\t,)}]\\PC{0,20})?",
    ) {
        let clean = text_line(&format!("{before}{planted}{after}\n")).into_owned();
        prop_assert!(!clean.contains(part), "{}", clean);
        prop_assert_eq!(clean.matches('\n').count(), 1);
    }

    #[test]
    fn any_json_line_stays_json(text in any::<String>(), name in any::<String>()) {
        let line = json!({ name: text, "password=": ["x@example.com", 1.5] });
        let line = line.to_string();
        let clean = json_line(&line);
        prop_assert!(serde_json::from_str::<Value>(&clean).is_ok(), "{}", clean);
        prop_assert!(!clean.contains("example"));
    }
}
