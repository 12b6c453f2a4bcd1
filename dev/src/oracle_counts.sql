-- Every minute and series for which both sides say something else, and every hour whose total is not its minutes' sum.
WITH counted AS (
    SELECT counts.hour + (minute.number - 1) * interval '1 minute' AS minute, series.tenant_id, series.source,
           series.event_type, sum(minute.events)::bigint AS events
    FROM event_counts AS counts
    JOIN event_series AS series ON series.id = counts.series_id
    CROSS JOIN unnest(counts.minutes) WITH ORDINALITY AS minute(events, number)
    WHERE minute.events <> 0
    GROUP BY 1, 2, 3, 4
), recounted AS (
    SELECT date_trunc('minute', occurred_at, 'UTC') AS minute, tenant_id, source, event_type, count(*) AS events
    FROM analytics_events
    GROUP BY 1, 2, 3, 4
), orphans AS (
    SELECT counts.hour, counts.series_id, counts.total
    FROM event_counts AS counts
    WHERE counts.total <> (SELECT coalesce(sum(minute), 0) FROM unnest(counts.minutes) AS minute)
       OR NOT EXISTS (SELECT FROM event_series AS series WHERE series.id = counts.series_id)
)
(SELECT 'counted, not there: ' || row::text FROM (TABLE counted EXCEPT TABLE recounted) AS row LIMIT 5)
UNION ALL
(SELECT 'there, not counted: ' || row::text FROM (TABLE recounted EXCEPT TABLE counted) AS row LIMIT 5)
UNION ALL
(SELECT 'total is not the sum, or no series: ' || row::text FROM orphans AS row LIMIT 5)
