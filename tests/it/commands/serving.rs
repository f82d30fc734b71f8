//! `millpond api`: where it may listen, and how.

use super::refusal;
use crate::support::TestDb;

// S0-167
#[tokio::test]
async fn an_api_that_other_machines_reach_must_say_how_they_get_tls() {
    let db = TestDb::new().await;
    let (said, shown, code) = refusal(&db, &["api", "--listen", "0.0.0.0:0"]);
    assert_ne!(code, Some(0));
    let said = said.to_string();
    for name in
        ["MILLPOND_HTTP__TLS_CERTIFICATE", "MILLPOND_HTTP__TLS_KEY", "MILLPOND_HTTP__BEHIND_TLS_PROXY"]
    {
        assert!(said.contains(name), "{said}");
    }
    assert!(!shown.contains("ready"), "{shown}");
}
