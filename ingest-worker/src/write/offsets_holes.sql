-- One row for all holes of a claim, from where it began to the end of the last one; each batch extends it.
INSERT INTO ingest_ledger AS l
    (consumer_group, topic, partition, incarnation, epoch, from_offset, to_offset, gaps, reason, worker)
SELECT $1::text, h.topic, h.partition, h.incarnation, h.epoch, h.claim_from, h.hole_end, h.gaps, 'not_delivered', $2::text
FROM unnest($3::text[], $4::integer[], $5::integer[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[])
     AS h (topic, partition, incarnation, epoch, claim_from, hole_end, gaps)
ON CONFLICT (consumer_group, topic, partition, incarnation, epoch, from_offset, reason) DO UPDATE SET
    to_offset = excluded.to_offset,
    gaps = l.gaps + excluded.gaps,
    updated_at = now()
