-- What the role in effect may do to what is ours: whatever analytics_writer has privileges on in schema public, with partitions,
-- identity columns' sequences and functions that run as their owner. Where nothing was granted to that group, because it
-- is missing or privileges were not restored: whatever belongs to the owner of analytics_events. No name is looked up by
-- a function that would fail where the schema may not be used.
WITH RECURSIVE public AS (
    SELECT oid, nspowner FROM pg_namespace WHERE nspname = 'public'
), here AS (
    SELECT c.oid, c.relname::text AS name, c.relkind, c.relowner AS owner, c.relispartition,
           EXISTS (SELECT FROM aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
                   WHERE r.rolname = 'analytics_writer') AS granted
    FROM pg_class c JOIN public p ON p.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
), anchor AS (
    SELECT oid, owner, granted FROM here WHERE name = 'analytics_events'
), found AS (
    SELECT h.oid FROM here h JOIN anchor a ON CASE WHEN a.granted THEN h.granted ELSE h.owner = a.owner END
    UNION
    SELECT i.inhrelid FROM found f JOIN pg_inherits i ON i.inhparent = f.oid
), ours AS (
    SELECT c.oid, c.relname::text AS name, c.relkind, c.relowner AS owner, c.relispartition
    FROM pg_class c
    WHERE c.oid IN (SELECT oid FROM found)
       OR c.oid IN (SELECT d.objid FROM pg_depend d
                    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                      AND d.deptype IN ('a', 'i') AND c.relkind = 'S' AND d.refobjid IN (SELECT oid FROM found))
), functions AS (
    SELECT p.oid, p.proname::text AS name
    FROM pg_proc p JOIN public n ON n.oid = p.pronamespace CROSS JOIN anchor a
    WHERE p.prosecdef
      AND (CASE WHEN a.granted
           THEN EXISTS (SELECT FROM aclexplode(p.proacl) e JOIN pg_roles r ON r.oid = e.grantee
                        WHERE r.rolname = 'analytics_writer')
           ELSE p.proowner = a.owner END)
), may_write AS (
    SELECT 1 AS place, name FROM ours
    WHERE CASE WHEN relkind = 'S' THEN has_sequence_privilege(oid, 'USAGE, UPDATE')
          ELSE has_table_privilege(oid, 'INSERT, UPDATE, DELETE, TRUNCATE, TRIGGER')
               OR has_any_column_privilege(oid, 'INSERT, UPDATE') END
       OR pg_has_role(owner, 'USAGE')
    UNION ALL
    SELECT 2, name || '()' FROM functions WHERE has_function_privilege(oid, 'EXECUTE')
    UNION ALL
    SELECT 3, 'schema public' FROM public WHERE pg_has_role(nspowner, 'USAGE') AND EXISTS (SELECT FROM anchor)
)
SELECT current_user::text AS role,
       session_user::text AS login,
       current_database()::text AS database,
       (SELECT has_schema_privilege(oid, 'USAGE') FROM public) AS may_use_public,
       EXISTS (SELECT FROM anchor) AS has_tables,
       coalesce((SELECT has_table_privilege(oid, 'SELECT') FROM here WHERE name = '_sqlx_migrations'), false) AS may_read_version,
       ARRAY(SELECT name FROM may_write ORDER BY place, left(name, 1) = '_', name) AS may_write,
       ARRAY(SELECT name FROM ours WHERE relkind <> 'S' AND NOT relispartition AND NOT has_table_privilege(oid, 'SELECT')
             ORDER BY left(name, 1) = '_', name) AS may_not_read
