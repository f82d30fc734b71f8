-- What code and settings say of a limit, kept while an operator has another: resetting goes back to it at once. Written by
-- crates/queue.

-- {shape, max, windowMs, period}; null: nothing but an operator made it.
alter table job_limits add column declared jsonb;
update job_limits
set declared = jsonb_build_object('shape', shape, 'max', max, 'windowMs', window_ms, 'period', period)
where not edited;
