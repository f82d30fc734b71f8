//! The profile meter's limits: what calls to it draw on, and what its refusals do to them.

use std::time::Duration;

use queue::{
    LimitUse,
    limits::{Limit, Shape},
};
use vendors::{Gate, Pass, Passing, Refused};

use crate::Context;

/// Calls in a window.
pub(super) const CALLS: &str = "meter.calls";
/// Calls at once.
const CONCURRENCY: &str = "meter.concurrency";
/// What a kind that calls the meter draws on.
pub(super) const USES: &[LimitUse] =
    &[LimitUse { name: CALLS, keyed: false, cost: 0 }, LimitUse { name: CONCURRENCY, keyed: false, cost: 0 }];

/// The meter's limits as settings give them, and the names of those that are off; 0 is off.
#[must_use]
pub fn meter_limits(
    calls_max: u32,
    window: Duration,
    concurrency_max: u32,
) -> (Vec<Limit>, Vec<&'static str>) {
    let calls = Limit::new(CALLS, Shape::Rate { max: calls_max.into(), window });
    let concurrency = Limit::new(CONCURRENCY, Shape::Concurrency { max: concurrency_max.into() });
    let (on, off): (Vec<_>, Vec<_>) =
        [(calls_max, calls, CALLS), (concurrency_max, concurrency, CONCURRENCY)]
            .into_iter()
            .partition(|(max, ..)| *max > 0);
    (on.into_iter().map(|(_, limit, _)| limit).collect(), off.into_iter().map(|(.., name)| name).collect())
}

/// Every try of a call to the meter is counted against its limits.
#[derive(Debug)]
pub(super) struct Metered<'a>(pub(super) &'a Context);

impl Gate for Metered<'_> {
    fn pass(&self) -> Passing<'_> {
        Box::pin(async {
            let permit =
                self.0.permit(&[CALLS, CONCURRENCY]).await.map_err(|error| -> Refused { error.into() })?;
            Ok(Box::new(permit) as Pass)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_of_nothing_is_no_limit() {
        let window = Duration::from_secs(60);
        let (on, off) = meter_limits(600, window, 0);
        assert_eq!(on, [Limit::new(CALLS, Shape::Rate { max: 600, window })]);
        assert_eq!(off, [CONCURRENCY]);
    }
}
