select l.id, l.at, l.actor_kind, l.actor, l.action, l.target, l.tenant_id, l.before as "before: _", l.after as "after: _",
    l.request_id, c.seq as "seq?"
from (
    select *
    from audit_log l
    where ($1::text is null or l.actor_kind = $1)
      and ($2::text is null or l.actor = $2)
      and ($3::text is null or l.action like $3)
      and ($4::text is null or l.target = $4)
      and ($5::uuid is null or l.tenant_id = $5)
      and ($6::text is null or l.request_id = $6)
      and ($7::timestamptz is null or l.at >= $7)
      and ($8::timestamptz is null or l.at < $8)
      and l.id >= $9 and l.id < $10
    order by l.id desc
    limit $11
) as l
left join audit_chain c on c.id = l.id
order by l.id desc
