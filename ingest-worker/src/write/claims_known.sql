-- Whether the partition has a row, and whether any partition of its topic has one.
SELECT
    EXISTS (SELECT FROM ingest_offsets WHERE consumer_group = $1::text AND topic = $2::text AND partition = $3::integer),
    EXISTS (SELECT FROM ingest_offsets WHERE consumer_group = $1::text AND topic = $2::text)
