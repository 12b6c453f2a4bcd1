-- Where reading begins, for partitions without a row: epoch 0, nobody's claim yet.
INSERT INTO ingest_offsets
    (consumer_group, topic, partition, start_offset, next_offset, epoch, backend_pid, backend_start, claimed_by)
SELECT $1::text, $2::text, b.partition, b.start_offset, b.start_offset, 0, 0, now(), ''
FROM unnest($3::integer[], $4::bigint[]) AS b (partition, start_offset)
ORDER BY b.partition
ON CONFLICT DO NOTHING
