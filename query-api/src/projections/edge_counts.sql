-- Events per type in [$1, $2): less than a minute, so a few rows of the primary key.
SELECT event_type, count(*) AS events
FROM analytics_events
WHERE occurred_at >= $1::timestamptz
  AND occurred_at < $2::timestamptz
GROUP BY event_type
