-- Lock and compare: a partition that another worker has claimed, or whose offset is not the one we start from, does not
-- come back. Comes with what every batch must know before it writes.
SELECT b.position, now() AS now, (SELECT CASE WHEN isfinite(horizon) THEN horizon END FROM event_retention) AS horizon,
       EXISTS (
           SELECT FROM dead_letters d
           WHERE d.topic = b.topic AND d.partition = b.partition AND d.record_offset >= b.next_offset
             AND d.record_offset < b.end_offset AND d.state = 'open' AND d.class = 'time_out_of_range'
       ) AS has_letters
FROM ingest_offsets o
JOIN unnest($2::text[], $3::integer[], $4::bigint[], $5::bigint[], $6::bigint[]) WITH ORDINALITY
     AS b (topic, partition, epoch, next_offset, end_offset, position)
  ON o.topic = b.topic AND o.partition = b.partition AND o.epoch = b.epoch AND o.next_offset = b.next_offset
WHERE o.consumer_group = $1::text
ORDER BY o.topic, o.partition
FOR UPDATE OF o
