-- Where an id lies: event_ids knows it for ids from outside, the id's own event for the others.
SELECT e.id, e.event_type, e.source, e.occurred_at, e.ingested_at, e.tenant_id
FROM unnest($1::uuid[], $2::timestamptz[]) AS k (id, occurred_at)
LEFT JOIN event_ids i ON i.id = k.id
JOIN analytics_events e ON e.id = k.id AND e.occurred_at = coalesce(i.occurred_at, k.occurred_at)
