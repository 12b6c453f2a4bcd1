-- What was granted to analytics_writer in schema public, and what of it this login may not do: nobody keeps a list.
WITH granted AS (
    SELECT a.privilege_type AS privilege, c.relname::text AS name, has_table_privilege(c.oid, a.privilege_type) AS may
    FROM pg_class c CROSS JOIN aclexplode(c.relacl) a JOIN pg_roles r ON r.oid = a.grantee
    WHERE c.relnamespace = 'public'::regnamespace AND r.rolname = 'analytics_writer'
      AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT c.relispartition
    UNION ALL
    SELECT a.privilege_type, p.proname::text, has_function_privilege(p.oid, a.privilege_type)
    FROM pg_proc p CROSS JOIN aclexplode(p.proacl) a JOIN pg_roles r ON r.oid = a.grantee
    WHERE p.pronamespace = 'public'::regnamespace AND r.rolname = 'analytics_writer'
), lacking AS (
    SELECT privilege || ' on ' || string_agg(name, ', ' ORDER BY name) AS sentence
    FROM granted WHERE NOT may GROUP BY privilege
)
SELECT EXISTS (SELECT FROM granted) AS is_granted,
       ARRAY(SELECT sentence FROM lacking ORDER BY sentence) AS lacking,
       -- NOINHERIT, or a membership without it: a member that is none until SET ROLE.
       EXISTS (SELECT FROM pg_roles WHERE rolname = 'analytics_writer' AND pg_has_role(oid, 'MEMBER')) AS is_member,
       EXISTS (SELECT FROM pg_class WHERE oid = to_regclass('public.analytics_events') AND pg_has_role(relowner, 'USAGE')) AS is_owner
