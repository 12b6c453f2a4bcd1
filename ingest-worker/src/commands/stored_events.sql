-- Where an id lies: event_ids knows it for ids from outside; an id that was made here tells its millisecond.
SELECT e.id, e.event_type, e.source, e.occurred_at, e.ingested_at, e.tenant_id
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS k (id, first_instant, last_instant)
LEFT JOIN event_ids i ON i.id = k.id
JOIN analytics_events e
  ON e.id = k.id
 AND e.occurred_at BETWEEN coalesce(i.occurred_at, k.first_instant) AND coalesce(i.occurred_at, k.last_instant)
