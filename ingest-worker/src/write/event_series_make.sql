-- Sorted, so that two lanes that make the same series cannot deadlock.
INSERT INTO event_series (tenant_id, source, event_type)
SELECT k.tenant_id, k.source, k.event_type
FROM unnest($1::text[], $2::text[], $3::text[]) AS k (tenant_id, source, event_type)
ORDER BY k.tenant_id NULLS FIRST, k.source, k.event_type
ON CONFLICT DO NOTHING
