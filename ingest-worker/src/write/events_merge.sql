-- In key order, so that two lanes that bring the same events cannot deadlock.
INSERT INTO analytics_events (id, event_type, source, occurred_at, tenant_id, payload, actor_id)
SELECT id, event_type, source, occurred_at, tenant_id, payload, actor_id
FROM event_staging
ORDER BY occurred_at, id
ON CONFLICT DO NOTHING
RETURNING id
