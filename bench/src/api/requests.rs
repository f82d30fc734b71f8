//! Requests as they go over the wire, written before anything is measured.

use std::fmt::Write as _;

use kernel::ids::InfluencerId;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::json;

use super::search_space::Search;

/// What partners do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Operation {
    Search,
    Poll,
    Quota,
    Enrich,
    Request,
}

impl Operation {
    pub(crate) const ALL: [Self; 5] = [Self::Search, Self::Poll, Self::Quota, Self::Enrich, Self::Request];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Search => "search",
            Self::Poll => "poll a job",
            Self::Quota => "quota",
            Self::Enrich => "enrich",
            Self::Request => "request",
        }
    }

    /// Any other status is an error.
    pub(crate) const fn expected(self) -> u16 {
        match self {
            Self::Enrich => 202,
            Self::Search | Self::Poll | Self::Quota | Self::Request => 200,
        }
    }

    /// 70% search, 15% job poll, 10% quota, 5% enrich and request.
    fn drawn(rng: &mut StdRng) -> Self {
        match rng.random_range(0..1_000) {
            0..700 => Self::Search,
            700..850 => Self::Poll,
            850..950 => Self::Quota,
            950..975 => Self::Enrich,
            _ => Self::Request,
        }
    }
}

/// A partner's system.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) code: String,
    pub(crate) key: String,
    /// Jobs that it may poll.
    pub(crate) jobs: Vec<String>,
}

/// A request and what it is.
#[derive(Debug, Clone)]
pub(crate) struct Prepared {
    pub(crate) operation: Operation,
    pub(crate) bytes: Vec<u8>,
}

impl Caller {
    pub(crate) fn search(&self, search: &Search) -> Prepared {
        self.get(Operation::Search, &format!("/api/v1/partners/pool/search{}", search.query()), "")
    }

    /// For a peer: the total may stop at what is told exactly.
    pub(crate) fn search_bounded(&self, search: &Search) -> Prepared {
        let path = format!("/api/v1/partners/pool/search{}", search.query());
        self.get(Operation::Search, &path, "X-Peer-Total: bounded\r\n")
    }

    pub(crate) fn enrich(&self, rng: &mut StdRng) -> Prepared {
        let url = format!("https://www.tiktok.com/@bench_{:x}", rng.random::<u64>());
        self.post(Operation::Enrich, "/api/v1/profiles/enrich", &json!({ "url": url }), rng)
    }

    fn poll(&self, rng: &mut StdRng) -> Prepared {
        let job = &self.jobs[rng.random_range(0..self.jobs.len())];
        self.get(Operation::Poll, &format!("/api/v1/jobs/{job}"), "")
    }

    pub(crate) fn quota(&self) -> Prepared {
        self.get(Operation::Quota, "/api/v1/partners/quota", "")
    }

    fn request(&self, pool: &[InfluencerId], rng: &mut StdRng) -> Prepared {
        let count = rng.random_range(1..=5);
        let ids: Vec<String> =
            (0..count).map(|_| pool[rng.random_range(0..pool.len())].to_string()).collect();
        let body = json!({ "influencerIds": ids, "reason": "Campaign Tết 2026" });
        self.post(Operation::Request, "/api/v1/partners/pool/request", &body, rng)
    }

    fn head(&self, method: &str, path: &str) -> String {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\nX-Partner-ID: {}\r\nX-API-Key: {}\r\n",
            self.code, self.key
        )
    }

    fn get(&self, operation: Operation, path: &str, more: &str) -> Prepared {
        let bytes = format!("{}{more}\r\n", self.head("GET", path)).into_bytes();
        Prepared { operation, bytes }
    }

    fn post(&self, operation: Operation, path: &str, body: &serde_json::Value, rng: &mut StdRng) -> Prepared {
        let body = body.to_string();
        let mut text = self.head("POST", path);
        let key = rng.random::<u128>();
        // Writing to a text does not fail.
        let _ = write!(
            text,
            "Idempotency-Key: {key:032x}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        Prepared { operation, bytes: text.into_bytes() }
    }
}

/// So many requests of the mix; `deeper` are searches that go on where others ended.
pub(crate) fn mix(
    count: usize,
    callers: &[Caller],
    pool: &[InfluencerId],
    deeper: &[Search],
    rng: &mut StdRng,
) -> Vec<Prepared> {
    let one = |rng: &mut StdRng| {
        let caller = &callers[rng.random_range(0..callers.len())];
        match Operation::drawn(rng) {
            Operation::Search if !deeper.is_empty() && rng.random_ratio(1, 20) => {
                caller.search(&deeper[rng.random_range(0..deeper.len())])
            }
            Operation::Search => caller.search(&Search::drawn(rng)),
            Operation::Poll => caller.poll(rng),
            Operation::Quota => caller.quota(),
            Operation::Enrich => caller.enrich(rng),
            Operation::Request => caller.request(pool, rng),
        }
    };
    (0..count).map(|_| one(rng)).collect()
}
