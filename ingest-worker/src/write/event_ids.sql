INSERT INTO event_ids (id, occurred_at, request_hash, content_digest, topic, partition, record_offset)
SELECT k.id, k.occurred_at, k.request_hash, k.content_digest, ($5::text[])[k.place], ($6::integer[])[k.place], k.record_offset
FROM unnest($1::uuid[], $2::timestamptz[], $3::bytea[], $4::bytea[], $7::integer[], $8::bigint[])
    AS k (id, occurred_at, request_hash, content_digest, place, record_offset)
ON CONFLICT DO NOTHING
RETURNING id
