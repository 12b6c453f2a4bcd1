INSERT INTO event_ids (id, occurred_at, request_hash)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::bytea[])
ON CONFLICT DO NOTHING
RETURNING id
