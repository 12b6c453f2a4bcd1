-- Which of these events are stored already. One look into the key of one month for each, whatever the planner thinks of
-- their number: they come in the key's order, and a scan of the table would grow with it.
SELECT e.id
FROM unnest($1::timestamptz[], $2::uuid[]) AS b (occurred_at, id)
CROSS JOIN LATERAL (
    SELECT a.id FROM analytics_events a WHERE a.occurred_at = b.occurred_at AND a.id = b.id LIMIT 1
) AS e
