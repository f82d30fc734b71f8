//! The API as its clients meet it: real HTTP, a real database, and where a job must run, real workers and the fake
//! vendors of the sandbox. Modules follow the URLs; what all of them share is named by its subject.

mod access;
pub mod answer;
mod authentication;
mod bodies;
mod docs;
mod edge;
mod following;
mod health;
mod idempotency;
mod ops;
mod rate_limit;
mod request_ids;
mod session;
mod stage;
mod trace;

mod jobs {
    mod cancel;
    mod list;
    mod show;
}

mod admin {
    mod partners;
    mod pool;
    mod telling;
    mod usage;
}

mod partners {
    mod request;
    mod search;
}

mod profiles {
    mod callback;
    mod enrich;
    mod prefer;
}
