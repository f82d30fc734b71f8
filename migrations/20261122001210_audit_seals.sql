-- What makes forged entries and a cut-off chain show. Written by crates/audit.

-- Made of the entry with the installation's keys by whoever recorded it: an entry that somebody wrote into the table has
-- none that fits, sealed or not.
alter table audit_log add column tag text not null default '';
alter table audit_log alter column tag drop default;

-- Where the chain ends, noted by whoever seals: links that are gone from its end are missed.
create table audit_head (
    one  boolean primary key default true check (one),
    seq  bigint  not null,
    link text    not null,
    tag  text    not null
);

-- Reading by whose it is, by request, and by what was done.
create index audit_log_tenant on audit_log (tenant_id, id);
create index audit_log_request on audit_log (request_id, id) where request_id is not null;
create index audit_log_action on audit_log (action text_pattern_ops, id);
