-- Open dead letters of records that came too early, if they are among these ranges.
SELECT d.digest, d.sentence, d.refused_at
FROM unnest($1::text[], $2::integer[], $3::bigint[], $4::bigint[]) AS b (topic, partition, from_offset, to_offset)
JOIN dead_letters d
  ON d.topic = b.topic AND d.partition = b.partition AND d.record_offset >= b.from_offset AND d.record_offset < b.to_offset
 AND d.state = 'open' AND d.class = 'time_out_of_range'
