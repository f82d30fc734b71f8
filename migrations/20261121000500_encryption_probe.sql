-- One sealed value that tells a starting process whether its keys belong to this database. Written by crates/db.

create table encryption_probe (
    id     smallint primary key default 1,
    sealed bytea    not null,
    constraint encryption_probe_single check (id = 1)
);
