-- Events per bucket and type in the whole minutes [$1, $2), from the hour rows. Buckets are $3 minutes wide, the first
-- begins at $4. Hours in $5 are cut by a border of a bucket or of the window and open their sixty minutes, all others
-- lie in one bucket and give their total.
SELECT date_bin(make_interval(mins => $3::integer), c.hour, $4::timestamptz) AS bucket_start,
       s.event_type,
       sum(c.total)::bigint AS events
FROM event_counts c
JOIN event_series s ON s.id = c.series_id
WHERE c.hour >= $1::timestamptz
  AND c.hour < $2::timestamptz
  AND c.hour <> ALL ($5::timestamptz[])
GROUP BY 1, 2
UNION ALL
SELECT date_bin(make_interval(mins => $3::integer), m.minute, $4::timestamptz),
       s.event_type,
       sum(m.events)::bigint
FROM event_counts c
JOIN event_series s ON s.id = c.series_id
CROSS JOIN LATERAL (
    SELECT c.hour + make_interval(mins => ordinal::integer - 1) AS minute, events
    FROM unnest(c.minutes) WITH ORDINALITY AS opened (events, ordinal)
) AS m
WHERE c.hour = ANY ($5::timestamptz[])
  AND m.minute >= $1::timestamptz
  AND m.minute < $2::timestamptz
  AND m.events > 0
GROUP BY 1, 2
