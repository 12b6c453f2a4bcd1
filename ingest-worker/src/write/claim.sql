-- One statement, committed by itself: the next epoch, the lane's backend, and the claim's own ledger row. With $7,
-- what this worker held: only if nobody else has claimed since. The former claim's row is taken over if it accounts for
-- nothing: an outage in which claims are made again and again would fill the ledger with such.
WITH held AS (
    SELECT consumer_group, topic, partition, epoch
    FROM ingest_offsets
    WHERE consumer_group = $1::text AND topic = $2::text AND partition = $3::integer
      AND ($7::bigint IS NULL OR epoch = $7::bigint)
    FOR UPDATE
), claimed AS (
    UPDATE ingest_offsets o SET
        epoch = greatest(o.epoch + 1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint),
        backend_pid = $4::integer,
        backend_start = $5::timestamptz,
        claimed_by = $6::text,
        claimed_at = now()
    FROM held h
    WHERE o.consumer_group = h.consumer_group AND o.topic = h.topic AND o.partition = h.partition
    RETURNING o.*
), taken_over AS (
    UPDATE ingest_ledger l SET epoch = c.epoch, worker = c.claimed_by, started_at = now(), updated_at = now()
    FROM held h, claimed c
    WHERE l.consumer_group = h.consumer_group AND l.topic = h.topic AND l.partition = h.partition
      AND l.incarnation = c.incarnation AND l.epoch = h.epoch AND l.from_offset = c.next_offset
      AND l.reason = 'consumed' AND l.to_offset = l.from_offset
    RETURNING 1
), opened AS (
    INSERT INTO ingest_ledger (consumer_group, topic, partition, incarnation, epoch, from_offset, to_offset, worker)
    SELECT consumer_group, topic, partition, incarnation, epoch, next_offset, next_offset, claimed_by FROM claimed
    WHERE NOT EXISTS (SELECT FROM taken_over)
)
SELECT epoch, incarnation, start_offset, next_offset, last_offset, last_fingerprint, last_timestamp FROM claimed
