-- A record that is read again, by this group or another, is the same dead letter.
INSERT INTO dead_letters (
    digest, topic, partition, incarnation, record_offset, record_key, record_value, record_headers, record_timestamp,
    timestamp_type, class, sentence
)
SELECT d.digest, d.topic, d.partition, d.incarnation, d.record_offset, d.record_key, d.record_value,
       d.record_headers::jsonb, d.record_timestamp, d.timestamp_type, d.class, d.sentence
FROM unnest(
    $1::bytea[], $2::text[], $3::integer[], $4::integer[], $5::bigint[], $6::bytea[], $7::bytea[], $8::text[],
    $9::timestamptz[], $10::text[], $11::text[], $12::text[]
) AS d (
    digest, topic, partition, incarnation, record_offset, record_key, record_value, record_headers, record_timestamp,
    timestamp_type, class, sentence
)
ORDER BY d.digest
ON CONFLICT (digest) DO NOTHING
