//! The reconciler that every worker process runs: it takes back what dead processes left, and wakes parked jobs
//! of kinds that this process knows. It takes no input, and any number may run at once.

use queue::Waker;
use rand::RngExt;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::Settings;

pub(crate) async fn run(
    pool: PgPool,
    settings: Settings,
    kinds: Vec<&'static str>,
    waker: Waker,
    ended: CancellationToken,
) {
    while !ended.is_cancelled() {
        match queue::sweep(&pool, settings.lease).await {
            Ok(swept) => {
                if swept.taken_back + swept.given_up > 0 {
                    tracing::warn!(
                        processes = swept.processes_lost,
                        taken_back = swept.taken_back,
                        given_up = swept.given_up,
                        "took jobs back from dead workers"
                    );
                    metrics::counter!("jobs_taken_back_total").increment(swept.taken_back);
                    metrics::counter!("jobs_given_up_total").increment(swept.given_up);
                    waker.job_ended();
                }
                waker.wake_all(swept.released);
            }
            Err(error) => tracing::warn!(%error, "sweep failed; the next one does the rest"),
        }
        match queue::unpark(&pool, &kinds).await {
            Ok(0) => {}
            Ok(unparked) => {
                tracing::info!(unparked, "parked jobs of known kinds are ready again");
                waker.wake_all(settings.slots.keys().copied());
            }
            Err(error) => tracing::warn!(%error, "parked jobs not looked at"),
        }
        // Never later than the setting says: delays are promised as lease + sweep.
        let pause = settings.sweep.mul_f64(rand::rng().random_range(0.8..1.0));
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = ended.cancelled() => {}
        }
    }
}
