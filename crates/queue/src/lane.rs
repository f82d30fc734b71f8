//! Lanes: what is claimed together. Jobs of one queue, share, kind and key stand in one lane, in the order of
//! priority and time, so that a claim can pass over a lane that must wait without looking at its jobs.
//!
//! A share's lanes stand side by side, so that a claim can go from one share to the next however many lanes the first
//! has: whoever has a million keys hides nobody.

use std::collections::BTreeSet;

use kernel::ids::TenantId;
use uuid::Uuid;

use crate::Queue;

/// The lane of jobs of these four: the queue's number, the last seven bytes of the share's id, which are the random
/// ones, and eight bytes of the hash (UUIDv5) of all.
pub(crate) fn lane(queue: Queue, share: TenantId, kind: &str, key: Option<&str>) -> Uuid {
    let mut name = String::with_capacity(kind.len() + 1 + key.map_or(0, str::len));
    name.push_str(kind);
    if let Some(key) = key {
        name.push('\0');
        name.push_str(key);
    }
    let hash = Uuid::new_v5(&share.uuid(), name.as_bytes()).into_bytes();
    let mut bytes = [0; 16];
    bytes[0] = number(queue);
    bytes[1..8].copy_from_slice(&share.uuid().as_bytes()[9..]);
    // Without the bytes that hold the version and the variant: claims rely on an even spread.
    bytes[8..14].copy_from_slice(&hash[..6]);
    bytes[14..].copy_from_slice(&hash[9..11]);
    Uuid::from_bytes(bytes)
}

/// All lanes of a queue: from the first, before the second.
pub(crate) fn lanes_of(queue: Queue) -> (Uuid, Uuid) {
    let at = |number: u8| {
        let mut bytes = [0; 16];
        bytes[0] = number;
        Uuid::from_bytes(bytes)
    };
    (at(number(queue)), at(number(queue) + 1))
}

/// The lanes and priorities in which jobs were claimed lately. While somebody keeps an old transaction open, the index
/// keeps all that were: who names these walks past none of them. Naming too few or too many changes what a claim costs,
/// never what it finds.
#[derive(Debug, Clone, Default)]
pub struct KnownLanes(BTreeSet<(Uuid, i16)>);

/// Each costs a claim two probes of the index.
const KNOWN_LANES_MAX: usize = 64;

impl KnownLanes {
    /// Jobs of that priority were in that lane.
    pub fn met(&mut self, lane: Uuid, priority: i16) {
        if self.0.contains(&(lane, priority)) {
            return;
        }
        if self.0.len() >= KNOWN_LANES_MAX {
            // Which of them still matter shows itself soon.
            self.0.clear();
        }
        self.0.insert((lane, priority));
    }

    /// Sorted, turned on their side, as the statement takes them.
    pub(crate) fn columns(&self) -> (Vec<Uuid>, Vec<i16>) {
        self.0.iter().copied().unzip()
    }
}

/// Stored with every job, so a queue's number never changes.
const fn number(queue: Queue) -> u8 {
    queue as u8 + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_lies_among_those_of_its_queue_and_of_no_other() {
        for queue in Queue::ALL {
            let lane = lane(queue, TenantId::SYSTEM, "profiles.fetch", None);
            let among: Vec<Queue> = Queue::ALL
                .into_iter()
                .filter(|other| (lanes_of(*other).0..lanes_of(*other).1).contains(&lane))
                .collect();
            assert_eq!(among, [queue]);
        }
    }

    #[test]
    fn share_kind_and_key_each_make_another_lane() {
        let (one, other) = (TenantId::SYSTEM, TenantId::from_uuid(Uuid::from_u128(7)));
        let lanes = [
            lane(Queue::Enrich, one, "a", None),
            lane(Queue::Enrich, other, "a", None),
            lane(Queue::Enrich, one, "b", None),
            lane(Queue::Enrich, one, "a", Some("")),
            lane(Queue::Enrich, one, "a", Some("b")),
        ];
        let distinct: std::collections::HashSet<_> = lanes.iter().collect();
        assert_eq!(distinct.len(), lanes.len());
    }
}
