-- People who sign in, their sessions, and what keeps guessers out. Written by crates/identity.

create table people (
    id            uuid        primary key,
    -- A keyed digest of the address, to find it by; the address itself is sealed.
    email_tag     text        not null collate "C",
    email         bytea       not null,
    role          text        not null,
    -- PHC string, argon2id; none: signs in elsewhere, or has not chosen one yet.
    password_hash text,
    -- Who vouches for them, where single sign-on does.
    oidc_issuer   text,
    oidc_subject  text,
    created_at    timestamptz not null default now(),
    disabled_at   timestamptz,
    signed_in_at  timestamptz,
    constraint people_email_key unique (email_tag),
    constraint people_oidc_key unique (oidc_issuer, oidc_subject),
    constraint people_role check (role in ('viewer', 'operator', 'admin')),
    constraint people_oidc check ((oidc_issuer is null) = (oidc_subject is null))
);

create table sessions (
    id           uuid        primary key,
    person_id    uuid        not null references people on delete cascade,
    -- SHA-256 of 256 random bits.
    secret_hash  bytea       not null,
    kind         text        not null,
    created_at   timestamptz not null default now(),
    -- Written once a minute at the most.
    seen_at      timestamptz not null default now(),
    expires_at   timestamptz not null,
    -- Ends when it was not used for so long.
    idle_ms      bigint      not null,
    constraint sessions_secret_key unique (secret_hash),
    constraint sessions_kind check (kind in ('cookie', 'token'))
);
create index sessions_person on sessions (person_id);
create index sessions_expires on sessions (expires_at);

-- One-time permits to choose a password, for who forgot theirs or was invited.
create table password_permits (
    secret_hash bytea       primary key,
    person_id   uuid        not null references people on delete cascade,
    expires_at  timestamptz not null,
    constraint password_permits_length check (octet_length(secret_hash) = 32)
);
create index password_permits_person on password_permits (person_id);

-- Failed sign-ins by what they have in common: an account (existing or not), an address, or both. Digests, because the
-- names that people try are personal. Lost with a crash of the database, which forgives everybody.
create unlogged table sign_in_guards (
    subject      text        primary key collate "C",
    failures     integer     not null,
    window_start timestamptz not null,
    locked_until timestamptz not null default '-infinity'
) with (fillfactor = 50);
create index sign_in_guards_age on sign_in_guards (window_start);

-- Addresses from which a person has signed in: strangers who guess cannot lock them out there.
create table sign_in_familiar (
    subject text        primary key collate "C",
    seen_at timestamptz not null default now()
);
create index sign_in_familiar_age on sign_in_familiar (seen_at);

-- Takes one try of each subject, or none. Answers until when the longest lock holds (none: the tries were taken) and
-- whether a lock begins with this try. A try is taken before the password is looked at, so that tries at the same moment
-- count too; whoever gets in gives them back. Tries while locked are not counted: a lock never grows.
create function sign_in_try(
    p_subjects text[], p_failures_max integer[], p_window interval, p_lock interval,
    out locked_until timestamptz, out locked_now boolean
)
language plpgsql as $$
declare
    moment timestamptz;
begin
    locked_now := false;
    insert into sign_in_guards (subject, failures, window_start)
    select subject, 0, clock_timestamp() from unnest(p_subjects) as s (subject) order by subject
    on conflict do nothing;
    -- In one order, so that two who try never wait for each other.
    perform from sign_in_guards g where g.subject = any(p_subjects) order by g.subject for update;
    moment := clock_timestamp();
    select max(g.locked_until) into locked_until
    from sign_in_guards g
    where g.subject = any(p_subjects) and g.locked_until > moment;
    if locked_until is not null then
        return;
    end if;
    with tried as (
        update sign_in_guards g
        set failures = case when c.counts then g.failures + 1 else 1 end,
            window_start = case when c.counts then g.window_start else moment end,
            locked_until = case
                when c.counts and g.failures + 1 >= c.failures_max then moment + p_lock
                else '-infinity'
            end
        from (
            select o.subject, s.failures_max,
                o.window_start > moment - p_window and o.locked_until = '-infinity' as counts
            from unnest(p_subjects, p_failures_max) as s (subject, failures_max)
            join sign_in_guards o on o.subject = s.subject
        ) as c
        where g.subject = c.subject
        returning g.locked_until > moment as locked
    )
    select coalesce(bool_or(locked), false) into locked_now from tried;
end
$$;
