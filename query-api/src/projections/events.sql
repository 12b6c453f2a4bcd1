-- The newest $1 events, read backwards through the primary key (occurred_at, id), month by month. A payload comes along if
-- its text has at most $2 bytes; it is made only where the column has at most $3 bytes and nobody noted that it is long.
-- Else come the bytes that it would have, as far as they are known. The numbers are written in before PostgreSQL sees
-- them. Columns are read by their places.
SELECT id, event_type, source, occurred_at, tenant_id,
       CASE WHEN octet_length(text) <= $2::bigint THEN text END AS payload,
       coalesce(payload_bytes, octet_length(text)) AS bytes
FROM (
    SELECT id, event_type, source, occurred_at, tenant_id, payload_bytes,
           CASE WHEN payload_bytes IS NULL AND pg_column_size(payload) <= $3::bigint THEN payload::text END AS text
    FROM analytics_events
    ORDER BY occurred_at DESC, id DESC
    LIMIT $1::bigint
) AS newest
ORDER BY occurred_at DESC, id DESC
