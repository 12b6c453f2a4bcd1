-- The new offsets and what became of every record, in the authority and in the claim's ledger row.
WITH batch AS (
    SELECT *
    FROM unnest(
        $2::text[], $3::integer[], $4::bigint[], $5::integer[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[],
        $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::bytea[], $16::timestamptz[]
    ) AS b (
        topic, partition, epoch, incarnation, ledger_from, next_offset, events, duplicates,
        dead_letters, tombstones, gaps, expired, last_offset, last_fingerprint, last_timestamp
    )
), advanced AS (
    UPDATE ingest_offsets o SET
        next_offset = b.next_offset,
        events = o.events + b.events,
        duplicates = o.duplicates + b.duplicates,
        dead_letters = o.dead_letters + b.dead_letters,
        tombstones = o.tombstones + b.tombstones,
        gaps = o.gaps + b.gaps,
        expired = o.expired + b.expired,
        last_offset = coalesce(b.last_offset, o.last_offset),
        last_fingerprint = coalesce(b.last_fingerprint, o.last_fingerprint),
        last_timestamp = CASE WHEN b.last_offset IS NULL THEN o.last_timestamp ELSE b.last_timestamp END,
        updated_at = now()
    FROM batch b
    WHERE o.consumer_group = $1::text AND o.topic = b.topic AND o.partition = b.partition AND o.epoch = b.epoch
    RETURNING 1
), extended AS (
    UPDATE ingest_ledger l SET
        to_offset = b.next_offset,
        events = l.events + b.events,
        duplicates = l.duplicates + b.duplicates,
        dead_letters = l.dead_letters + b.dead_letters,
        tombstones = l.tombstones + b.tombstones,
        gaps = l.gaps + b.gaps,
        expired = l.expired + b.expired,
        updated_at = now()
    FROM batch b
    WHERE l.consumer_group = $1::text AND l.topic = b.topic AND l.partition = b.partition
      AND l.incarnation = b.incarnation AND l.epoch = b.epoch AND l.from_offset = b.ledger_from
      AND l.reason = 'consumed'
    RETURNING 1
)
SELECT (SELECT count(*) FROM advanced), (SELECT count(*) FROM extended)
