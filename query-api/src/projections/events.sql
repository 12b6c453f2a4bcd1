-- The newest events, read backwards through the primary key (occurred_at, id), month by month. The number is
-- written in before PostgreSQL sees it. Columns are read by their places.
SELECT id, event_type, source, occurred_at, tenant_id, payload::text AS payload
FROM analytics_events
ORDER BY occurred_at DESC, id DESC
LIMIT $1::bigint
