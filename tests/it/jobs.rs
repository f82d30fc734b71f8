//! Every kind of job, each on a real database and against the sandbox: what an attempt does, what its faults come to,
//! and that running it again after any crash has no second effect. Modules follow `jobs/src`.
//!
//! Most attempts are made by hand (`ManualWorker`), in the order that a test needs; where many jobs at once are the
//! point, real workers run them.

mod stage;

mod email {
    mod send;
}

mod maintenance {
    mod prune_jobs;
    mod roll_up_history;
}

mod partners {
    mod follow_calendar;
}

mod people {
    mod send_reset;
}

mod profiles {
    mod enrich;
    mod fetch;
    mod fetch_faults;
}

mod webhooks {
    mod deliver;
    mod deliver_faults;
}
