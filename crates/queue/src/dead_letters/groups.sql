-- The newest dead jobs, counted by message: first how many were looked at.
select looked, kind, code, message, jobs, first_at, last_at, samples
from job_dead_groups($1, $2, $3, $4, $5, $6, $7, $9, $8)
