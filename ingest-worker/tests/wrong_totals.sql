-- Partitions whose claims and gaps do not add up to their totals, each incarnation by itself; of those that are over only the
-- ledger is left, whose gaps must be explained and which must say where they ended.
WITH ledger AS (
    SELECT consumer_group, topic, partition, incarnation,
           sum(events) FILTER (WHERE reason = 'consumed') AS events,
           sum(duplicates) FILTER (WHERE reason = 'consumed') AS duplicates,
           sum(dead_letters) FILTER (WHERE reason = 'consumed') AS dead_letters,
           sum(tombstones) FILTER (WHERE reason = 'consumed') AS tombstones,
           sum(gaps) FILTER (WHERE reason = 'consumed') AS gaps,
           sum(expired) FILTER (WHERE reason = 'consumed') AS expired,
           coalesce(sum(gaps) FILTER (WHERE reason <> 'consumed'), 0) AS explained,
           max(to_offset) FILTER (WHERE reason = 'consumed') AS to_offset,
           max(to_offset) FILTER (WHERE reason = 'new_incarnation') AS ended
    FROM ingest_ledger GROUP BY 1, 2, 3, 4
)
SELECT o::text
FROM ingest_offsets o
LEFT JOIN ledger l USING (consumer_group, topic, partition, incarnation)
WHERE o.epoch > 0
  AND ((o.events, o.duplicates, o.dead_letters, o.tombstones, o.gaps, o.expired, o.gaps, o.next_offset)
      IS DISTINCT FROM
      (l.events, l.duplicates, l.dead_letters, l.tombstones, l.gaps, l.expired, l.explained, l.to_offset)
      OR l.ended IS NOT NULL)
UNION ALL
SELECT l::text
FROM ledger l
JOIN ingest_offsets o USING (consumer_group, topic, partition)
WHERE l.incarnation <> o.incarnation
  AND ((l.gaps, l.to_offset) IS DISTINCT FROM (l.explained, l.ended) OR l.incarnation > o.incarnation)
