//! Who comes next: weighted fair queueing between the tenants whose jobs are ready. Pure.
//!
//! Every share has a virtual time, its pass, which grows by `1 / weight` with each of its jobs; the next job goes to
//! the share whose pass is the least, of equals to the first (P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queuing",
//! SIGCOMM 1996). A share that was idle begins at the present virtual time, the least pass of those that were served
//! last, so it can neither save up turns nor be made to pay for having been alone. [`allocate`] is the rule; the SQL
//! function `job_allocate` realises it inside the claim, and `tests/it/queue/fair_share.rs` holds the two together.
//!
//! A claim looks at 256 shares at the most, in a circle. With more tenants than that at once none is left out, but
//! weights hold less exactly: who is out of sight is taken for idle.

use std::collections::HashMap;

use kernel::ids::TenantId;

/// A share that has ready jobs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShareState {
    /// Whose it is.
    pub share: TenantId,
    /// How much more than weight 1 it may have.
    pub weight: i16,
    /// Its virtual time, above the present one.
    pub pass: f64,
    /// How many of its jobs may be taken at the most.
    pub room: i32,
}

/// Gives `count` jobs to shares, one by one, and answers how many each got, in the order of `shares`. No job is
/// withheld while any share has room.
#[must_use]
pub fn allocate(count: i32, shares: &[ShareState]) -> Vec<i32> {
    let mut given = vec![0; shares.len()];
    for _ in 0..count {
        let start = |at: usize| {
            let share: &ShareState = &shares[at];
            share.pass + f64::from(given[at]) / f64::from(share.weight)
        };
        let next = (0..shares.len())
            .filter(|at| given[*at] < shares[*at].room)
            .min_by(|a, b| start(*a).total_cmp(&start(*b)));
        match next {
            Some(at) => given[at] += 1,
            None => break,
        }
    }
    given
}

/// The virtual times that a pool of workers remembers between claims.
#[derive(Debug, Clone, Default)]
pub struct Shares {
    now: f64,
    passes: HashMap<TenantId, f64>,
}

impl Shares {
    /// Shares that are ahead of the present virtual time, and by how much.
    #[must_use]
    pub fn ahead(&self) -> (Vec<uuid::Uuid>, Vec<f64>) {
        self.passes.iter().map(|(share, pass)| (share.uuid(), pass - self.now)).unzip()
    }

    /// Charges the jobs of one claim: (share, its weight, how many).
    pub fn charge(&mut self, claimed: impl IntoIterator<Item = (TenantId, i16, u32)>) {
        let mut least_start = f64::INFINITY;
        for (share, weight, jobs) in claimed {
            let start = self.passes.get(&share).copied().unwrap_or(self.now).max(self.now);
            least_start = least_start.min(start);
            self.passes.insert(share, start + f64::from(jobs) / f64::from(weight.max(1)));
        }
        if least_start.is_finite() {
            self.now = self.now.max(least_start);
        }
        let now = self.now;
        self.passes.retain(|_, pass| *pass > now);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn share(number: u128, weight: i16) -> ShareState {
        ShareState { share: TenantId::from_uuid(Uuid::from_u128(number)), weight, pass: 0.0, room: i32::MAX }
    }

    /// Claims `rounds` times `count` jobs from shares that never run out, and answers each one's total.
    fn contend(shares: &[ShareState], count: i32, rounds: usize) -> Vec<i32> {
        let mut memory = Shares::default();
        let mut totals = vec![0; shares.len()];
        for _ in 0..rounds {
            let (ids, passes) = memory.ahead();
            let present: Vec<ShareState> = shares
                .iter()
                .map(|share| {
                    let ahead = ids.iter().position(|id| *id == share.share.uuid());
                    ShareState { pass: ahead.map_or(0.0, |at| passes[at]), ..*share }
                })
                .collect();
            let given = allocate(count, &present);
            for (total, jobs) in totals.iter_mut().zip(&given) {
                *total += jobs;
            }
            memory.charge(
                present
                    .iter()
                    .zip(&given)
                    .filter(|(_, jobs)| **jobs > 0)
                    .map(|(share, jobs)| (share.share, share.weight, jobs.unsigned_abs())),
            );
        }
        totals
    }

    #[test]
    fn under_contention_shares_follow_weights_even_with_one_slot() {
        let shares = [share(1, 1), share(2, 2), share(3, 4), share(4, 8)];
        assert_eq!(contend(&shares, 1, 1_500), [100, 200, 400, 800]);
        assert_eq!(contend(&shares, 15, 100), [100, 200, 400, 800]);
    }

    #[test]
    fn who_was_idle_neither_saved_up_nor_owes() {
        let (busy, late) = (share(1, 1), share(2, 1));
        let mut memory = Shares::default();
        for _ in 0..1_000 {
            memory.charge([(busy.share, 1, 10)]);
        }
        let (ids, passes) = memory.ahead();
        let ahead = ids.iter().position(|id| *id == busy.share.uuid()).map_or(0.0, |at| passes[at]);
        assert!(ahead <= 10.0, "no more than its last claim: {ahead}");
        let given = allocate(40, &[ShareState { pass: ahead, ..busy }, late]);
        assert_eq!(given, [15, 25], "the late one first, then by turns");
    }

    proptest! {
        #[test]
        fn nothing_is_withheld_and_no_room_is_exceeded(
            count in 0..200_i32,
            shares in prop::collection::vec((1..100_i16, 0.0..5.0_f64, 0..50_i32), 0..20),
        ) {
            let shares: Vec<ShareState> = shares
                .into_iter()
                .zip(1..)
                .map(|((weight, pass, room), number)| ShareState { pass, room, ..share(number, weight) })
                .collect();
            let given = allocate(count, &shares);
            let room: i32 = shares.iter().map(|share| share.room).sum();
            prop_assert_eq!(given.iter().sum::<i32>(), count.min(room));
            for (share, jobs) in shares.iter().zip(&given) {
                prop_assert!(*jobs <= share.room);
            }
        }

        #[test]
        fn shares_are_within_a_tenth_of_their_weights(
            weights in prop::collection::vec(1..16_i16, 2..8),
            count in 1..64_i32,
        ) {
            let shares: Vec<ShareState> =
                weights.iter().zip(1..).map(|(weight, number)| share(number, *weight)).collect();
            let rounds = 20_000 / count as usize;
            let totals = contend(&shares, count, rounds);
            let jobs: i32 = totals.iter().sum();
            let weight: i16 = weights.iter().sum();
            for (total, own) in totals.iter().zip(&weights) {
                let due = f64::from(jobs) * f64::from(*own) / f64::from(weight);
                prop_assert!((f64::from(*total) - due).abs() <= due * 0.1, "{total} of {due}");
            }
        }

        #[test]
        fn a_flood_delays_the_next_job_of_another_by_no_more_than_its_share(
            flood in 1..16_i16, other in 1..16_i16, count in 2..32_i32,
        ) {
            let (a, b) = (share(1, flood), share(2, other));
            let mut memory = Shares::default();
            for _ in 0..50 {
                memory.charge([(a.share, flood, count.unsigned_abs())]);
            }
            let (_, passes) = memory.ahead();
            let ahead = passes.first().copied().unwrap_or(0.0);
            // How many of the flood's jobs go before the other's first.
            let mut before = 0;
            let mut pass = ahead;
            while pass <= 0.0 {
                pass += 1.0 / f64::from(flood);
                before += 1;
            }
            prop_assert!(before <= 1);
            let given = allocate(before + 1, &[ShareState { pass: ahead, ..a }, b]);
            prop_assert_eq!(given[1], 1);
        }
    }
}
