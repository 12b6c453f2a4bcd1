-- Payloads of the events ($1, $2), which lie between $4 and $5; each as text if that has at most $3 bytes, made once.
SELECT k.place::integer AS place, octet_length(made.text)::bigint AS bytes,
       CASE WHEN octet_length(made.text) <= k.allowed THEN made.text END AS payload
FROM unnest($1::timestamptz[], $2::uuid[], $3::bigint[]) WITH ORDINALITY AS k (occurred_at, id, allowed, place)
JOIN analytics_events e ON e.occurred_at = k.occurred_at AND e.id = k.id
CROSS JOIN LATERAL (SELECT e.payload::text AS text OFFSET 0) AS made
WHERE e.occurred_at BETWEEN $4::timestamptz AND $5::timestamptz
