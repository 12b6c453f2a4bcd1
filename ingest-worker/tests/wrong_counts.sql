-- Hours and series whose minutes are not what the events say. Of months that were dropped only the counts are left.
WITH recount AS (
    SELECT date_trunc('minute', e.occurred_at) AS minute, s.id AS series_id, count(*) AS events
    FROM analytics_events e
    JOIN event_series s ON s.tenant_id IS NOT DISTINCT FROM e.tenant_id AND s.source = e.source AND s.event_type = e.event_type
    GROUP BY 1, 2
), counted AS (
    SELECT c.hour + (m.position - 1) * interval '1 minute' AS minute, c.series_id, sum(m.events) AS events
    FROM event_counts c, event_retention r, unnest(c.minutes) WITH ORDINALITY AS m (events, position)
    WHERE c.hour >= r.horizon
    GROUP BY 1, 2
    HAVING sum(m.events) <> 0
)
SELECT concat_ws(' ', coalesce(r.minute, c.minute), r.events, c.events)
FROM recount r FULL JOIN counted c ON c.minute = r.minute AND c.series_id = r.series_id
WHERE r.events IS DISTINCT FROM c.events
UNION ALL
SELECT c::text FROM event_counts c WHERE total <> (SELECT sum(m) FROM unnest(c.minutes) AS m)
