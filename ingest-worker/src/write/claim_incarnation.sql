-- One statement, committed by itself: another topic of the same name begins. The totals count anew, per incarnation; the
-- ledger keeps those of the old one, and says where it ended. Locked first: a batch of ours may be about to advance it.
WITH held AS (
    SELECT consumer_group, topic, partition, incarnation, epoch, next_offset
    FROM ingest_offsets
    WHERE consumer_group = $1::text AND topic = $2::text AND partition = $3::integer AND epoch = $4::bigint
    FOR UPDATE
), begun AS (
    UPDATE ingest_offsets o SET
        incarnation = o.incarnation + 1,
        epoch = greatest(o.epoch + 1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint),
        start_offset = $5::bigint,
        next_offset = $5::bigint,
        events = 0, duplicates = 0, dead_letters = 0, tombstones = 0, gaps = 0, expired = 0,
        last_offset = NULL, last_fingerprint = NULL, last_timestamp = NULL,
        claimed_at = now(),
        updated_at = now()
    FROM held h
    WHERE o.consumer_group = h.consumer_group AND o.topic = h.topic AND o.partition = h.partition
    RETURNING o.*
), ended AS (
    INSERT INTO ingest_ledger
        (consumer_group, topic, partition, incarnation, epoch, from_offset, to_offset, reason, worker)
    SELECT h.consumer_group, h.topic, h.partition, h.incarnation, h.epoch, h.next_offset, h.next_offset,
           'new_incarnation', b.claimed_by
    FROM held h CROSS JOIN begun b
), opened AS (
    INSERT INTO ingest_ledger (consumer_group, topic, partition, incarnation, epoch, from_offset, to_offset, worker)
    SELECT consumer_group, topic, partition, incarnation, epoch, next_offset, next_offset, claimed_by FROM begun
)
SELECT epoch, incarnation, start_offset, next_offset, last_offset, last_fingerprint, last_timestamp FROM begun
