//! The services that jobs use, real ones, pointed at a sandbox or at nobody.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use audit::Actor;
use db::Pool;
use jobs::Door;
pub use jobs::Services;
use kernel::sealing::Keyring;
use outbound::{OutboundClient, OutboundSettings};
use sandbox::{Sandbox, SandboxOptions};
use vendors::meter::{Meter, MeterSettings};

use super::logs;

/// Nobody listens on the discard port.
const NOBODY: &str = "http://127.0.0.1:9/meter";
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// The keys of this test run.
pub fn keyring() -> Arc<Keyring> {
    static KEYRING: LazyLock<Arc<Keyring>> = LazyLock::new(|| Arc::new(Keyring::generate()));
    KEYRING.clone()
}

/// A test that acts by itself, as the program does.
pub fn door() -> Door<'static> {
    static KEYRING: LazyLock<Arc<Keyring>> = LazyLock::new(keyring);
    Door { actor: Actor::System("a test"), request_id: None, keyring: &KEYRING }
}

/// All fake vendors, on a free port of this machine.
pub async fn sandbox() -> Sandbox {
    logs::gather();
    sandbox::start(SandboxOptions::default()).await.expect("the sandbox starts")
}

/// Services over a pool; without a meter's address, calls to it fail at once.
pub fn services(pool: Pool, meter_url: Option<&str>) -> Services {
    let meter = MeterSettings {
        base_url: meter_url.unwrap_or(NOBODY).to_owned(),
        token: SandboxOptions::default().token,
        timeout: Duration::from_secs(5),
    };
    let outbound = OutboundSettings {
        timeout: Duration::from_secs(5),
        allow_loopback: true,
        ..OutboundSettings::default()
    };
    Services {
        limits: jobs::Limits::new(pool.clone()),
        pool,
        keyring: keyring(),
        meter: Meter::new(meter).expect("a meter client"),
        smtp: None,
        outbound: OutboundClient::new(outbound).expect("an outbound client"),
        crawl_reuse: DAY,
        miss_reuse: Duration::from_secs(300),
        retention: 35 * DAY,
    }
}
