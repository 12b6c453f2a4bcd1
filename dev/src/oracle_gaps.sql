-- Incarnations of partitions whose claims have other gaps than the ledger gives reasons for.
SELECT concat_ws(' ', topic, partition, 'incarnation', incarnation, 'gaps', gaps, 'explained', explained)
FROM (
    SELECT topic, partition, incarnation,
           coalesce(sum(gaps) FILTER (WHERE reason = 'consumed'), 0) AS gaps,
           coalesce(sum(gaps) FILTER (WHERE reason <> 'consumed'), 0) AS explained
    FROM ingest_ledger WHERE consumer_group = $1::text GROUP BY 1, 2, 3
) AS incarnations
WHERE gaps <> explained LIMIT 5
