INSERT INTO ingest_ledger
    (consumer_group, topic, partition, incarnation, epoch, from_offset, to_offset, gaps, reason, worker)
SELECT $1::text, g.topic, g.partition, g.incarnation, g.epoch, g.from_offset, g.to_offset, g.to_offset - g.from_offset,
       'not_delivered', $2::text
FROM unnest($3::text[], $4::integer[], $5::integer[], $6::bigint[], $7::bigint[], $8::bigint[])
     AS g (topic, partition, incarnation, epoch, from_offset, to_offset)
