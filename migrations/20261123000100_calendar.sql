-- What time it is for whatever goes by the calendar: months of quota, periods of subscriptions. A database may be set
-- ahead of the clock (`alter database … set millpond.calendar_offset = '7 days'`) to rehearse a turn of the month;
-- leases, retries and schedules go by the clock itself.
create function calendar_now() returns timestamptz
language sql stable parallel safe as $$
    select now() + coalesce(nullif(current_setting('millpond.calendar_offset', true), '')::interval, interval '0')
$$;
