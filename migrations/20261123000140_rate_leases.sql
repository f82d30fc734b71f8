-- Processes take requests of a minute by the lease, several at a time.
alter table partner_rate_windows
    -- How many the last lease was granted.
    add column granted integer not null default 0;
