SELECT (SELECT count(*) FROM (
            SELECT event_type, source, occurred_at, actor_id, payload FROM expected
            EXCEPT ALL
            SELECT event_type, source, occurred_at, actor_id, payload::text FROM analytics_events) AS missing),
       (SELECT count(*) FROM (
            SELECT event_type, source, occurred_at, actor_id, payload::text FROM analytics_events
            EXCEPT ALL
            SELECT event_type, source, occurred_at, actor_id, payload FROM expected) AS surplus)
