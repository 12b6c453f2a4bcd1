-- One statement, committed by itself: the next epoch, the lane's backend, and the claim's own ledger row. With $7,
-- what this worker held: only if nobody else has claimed since.
WITH claimed AS (
    UPDATE ingest_offsets SET
        epoch = greatest(epoch + 1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint),
        backend_pid = $4::integer,
        backend_start = $5::timestamptz,
        claimed_by = $6::text,
        claimed_at = now()
    WHERE consumer_group = $1::text AND topic = $2::text AND partition = $3::integer
      AND ($7::bigint IS NULL OR epoch = $7::bigint)
    RETURNING *
), opened AS (
    INSERT INTO ingest_ledger (consumer_group, topic, partition, incarnation, epoch, from_offset, to_offset, worker)
    SELECT consumer_group, topic, partition, incarnation, epoch, next_offset, next_offset, claimed_by FROM claimed
)
SELECT epoch, incarnation, start_offset, next_offset, last_offset, last_fingerprint, last_timestamp FROM claimed
