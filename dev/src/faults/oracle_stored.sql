-- For each of these, in order: is it stored exactly so?
SELECT EXISTS (
    SELECT FROM analytics_events AS event
    WHERE event.occurred_at = row.at AND event.event_type = row.type AND event.source = row.source
      AND event.actor_id IS NOT DISTINCT FROM row.actor AND event.payload = row.payload::jsonb
)
FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::text[])
     WITH ORDINALITY AS row(type, source, at, actor, payload, number)
ORDER BY row.number
