-- What was sent and must be stored, for this connection only.
DROP TABLE IF EXISTS pg_temp.expected;
CREATE TEMPORARY TABLE expected (event_type text, source text, occurred_at timestamptz, actor_id text, payload text);
