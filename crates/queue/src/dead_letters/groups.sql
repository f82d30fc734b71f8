-- The newest dead jobs by kind and code: first how many were looked at.
select looked, kind, code, messages, ids, ended_at
from job_dead_groups($1, $2, $3, $4, $5, $6, $7, $9, $8)
