SELECT o.id
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS o (id, millisecond_start, millisecond_end)
WHERE EXISTS (
    SELECT FROM analytics_events e
    WHERE e.occurred_at >= o.millisecond_start AND e.occurred_at < o.millisecond_end AND e.id = o.id
)
