-- What the role in effect may do to the tables of migrations/, partitions of events included; $1: their names.
WITH ours AS (
    SELECT c.oid, c.relname::text AS name
    FROM pg_class c
    WHERE c.relnamespace = to_regnamespace('public')
      AND (c.relname = ANY ($1::text[])
           OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass('public.analytics_events')))
)
SELECT current_user::text AS role,
       EXISTS (SELECT FROM unnest($1::text[]) AS needed (name) WHERE name NOT IN (SELECT name FROM ours)) AS not_migrated,
       ARRAY(SELECT name FROM ours
             WHERE has_table_privilege(oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
                OR has_any_column_privilege(oid, 'INSERT, UPDATE')
             ORDER BY name) AS may_write,
       ARRAY(SELECT name FROM ours
             WHERE name = ANY ($1::text[]) AND NOT has_table_privilege(oid, 'SELECT')
             ORDER BY name) AS may_not_read
