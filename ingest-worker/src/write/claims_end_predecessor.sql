-- Ends the session that the row names, if it is what the waiting claim ($4: its backend) waits for, and if it really is
-- that session: pids are used again, and only sessions of our own role may be ended. Never the lane that claims ($5, $6).
SELECT pg_terminate_backend(a.pid, 5000)
FROM ingest_offsets o
JOIN pg_stat_activity a ON a.pid = o.backend_pid AND a.backend_start = o.backend_start AND a.usename = current_user
WHERE o.consumer_group = $1::text AND o.topic = $2::text AND o.partition = $3::integer
  AND a.pid = ANY (pg_blocking_pids($4::integer))
  AND (a.pid, a.backend_start) <> ($5::integer, $6::timestamptz)
