-- Partitions whose claims and gaps do not add up to their totals.
SELECT o::text
FROM ingest_offsets o
LEFT JOIN (
    SELECT consumer_group, topic, partition,
           sum(events) FILTER (WHERE reason = 'consumed') AS events,
           sum(duplicates) FILTER (WHERE reason = 'consumed') AS duplicates,
           sum(dead_letters) FILTER (WHERE reason = 'consumed') AS dead_letters,
           sum(tombstones) FILTER (WHERE reason = 'consumed') AS tombstones,
           sum(gaps) FILTER (WHERE reason = 'consumed') AS gaps,
           sum(expired) FILTER (WHERE reason = 'consumed') AS expired,
           coalesce(sum(gaps) FILTER (WHERE reason <> 'consumed'), 0) AS explained,
           max(to_offset) AS to_offset
    FROM ingest_ledger GROUP BY 1, 2, 3
) l USING (consumer_group, topic, partition)
WHERE o.epoch > 0
  AND (o.events, o.duplicates, o.dead_letters, o.tombstones, o.gaps, o.expired, o.gaps, o.next_offset)
      IS DISTINCT FROM
      (l.events, l.duplicates, l.dead_letters, l.tombstones, l.gaps, l.expired, l.explained, l.to_offset)
