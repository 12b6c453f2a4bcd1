-- The same for ids that were made here, of which event_ids knows nothing: compared with the event itself.
SELECT k.place
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[], $4::text[], $5::text[], $6::text[], $7::text[], $8::timestamptz[], $9::text[])
    WITH ORDINALITY
    AS k (id, millisecond_start, millisecond_end, event_type, source, tenant_id, actor_id, occurred_at, payload, place)
JOIN LATERAL (
    SELECT a.* FROM analytics_events a
    WHERE a.occurred_at >= k.millisecond_start AND a.occurred_at < k.millisecond_end AND a.id = k.id
) AS e ON true
WHERE NOT EXISTS (SELECT FROM event_ids i WHERE i.id = k.id)
  AND (e.event_type <> k.event_type OR e.source <> k.source OR e.occurred_at <> k.occurred_at
       OR e.tenant_id IS DISTINCT FROM k.tenant_id OR e.actor_id IS DISTINCT FROM k.actor_id
       OR e.payload <> k.payload::jsonb)
