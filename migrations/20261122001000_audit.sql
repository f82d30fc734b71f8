-- Who changed what. Written by crates/audit.
--
-- An entry is stored in the transaction of the change that it tells of; a reconciler seals entries into a chain afterwards,
-- because a chain that grew inside would make every change wait for every other.

create table audit_log (
    id         uuid        primary key,
    at         timestamptz not null default now(),
    actor_kind text        not null,
    -- usr_…, ptn_…, the account at the command line, or the part of the program.
    actor      text        not null,
    -- What was done: queues.pause.
    action     text        not null,
    -- What it was done to: a job's id, a queue's name.
    target     text        not null,
    -- Whose it is; nil: the installation's.
    tenant_id  uuid        not null,
    -- json and not jsonb: the text is sealed as it was written.
    before     json,
    after      json,
    request_id text,
    constraint audit_log_actor_kind check (actor_kind in ('user', 'partner', 'cli', 'system'))
);
create index audit_log_target on audit_log (target, id);
create index audit_log_actor on audit_log (actor, id);

-- Entries that wait to be sealed, stored with them.
create table audit_unsealed (
    id uuid primary key
) with (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 1000);

-- The chain: each link is made of its number, its entry and the link before it.
create table audit_chain (
    seq  bigint primary key,
    id   uuid   not null unique,
    -- keyid:hex, see kernel::sealing.
    link text   not null
);

create function audit_refuse() returns trigger
language plpgsql as $$
begin
    raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege';
end
$$;

create trigger audit_log_append_only before update or delete on audit_log
    for each row execute function audit_refuse();
create trigger audit_log_no_truncate before truncate on audit_log
    for each statement execute function audit_refuse();
create trigger audit_chain_append_only before update or delete on audit_chain
    for each row execute function audit_refuse();
create trigger audit_chain_no_truncate before truncate on audit_chain
    for each statement execute function audit_refuse();
