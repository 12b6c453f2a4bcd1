-- One statement, committed by itself: what retention removed from $5 up to $6 is booked as a gap of the claim ($4) that met
-- it, and the next claim begins behind it.
WITH passed AS (
    UPDATE ingest_offsets SET
        epoch = greatest(epoch + 1, floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint),
        gaps = gaps + $6::bigint - next_offset,
        next_offset = $6::bigint,
        claimed_at = now(),
        updated_at = now()
    WHERE consumer_group = $1::text AND topic = $2::text AND partition = $3::integer
      AND epoch = $4::bigint AND next_offset = $5::bigint
    RETURNING *
), extended AS (
    UPDATE ingest_ledger l SET
        to_offset = $6::bigint,
        gaps = l.gaps + $6::bigint - $5::bigint,
        updated_at = now()
    FROM passed p
    WHERE l.consumer_group = p.consumer_group AND l.topic = p.topic AND l.partition = p.partition
      AND l.incarnation = p.incarnation AND l.epoch = $4::bigint AND l.from_offset = $5::bigint
      AND l.reason = 'consumed'
), gone AS (
    INSERT INTO ingest_ledger
        (consumer_group, topic, partition, incarnation, epoch, from_offset, to_offset, gaps, reason, worker)
    SELECT consumer_group, topic, partition, incarnation, $4::bigint, $5::bigint, $6::bigint, $6::bigint - $5::bigint,
           'retention', claimed_by
    FROM passed
), opened AS (
    INSERT INTO ingest_ledger (consumer_group, topic, partition, incarnation, epoch, from_offset, to_offset, worker)
    SELECT consumer_group, topic, partition, incarnation, epoch, next_offset, next_offset, claimed_by FROM passed
)
SELECT epoch, incarnation, start_offset, next_offset, last_offset, last_fingerprint, last_timestamp FROM passed
