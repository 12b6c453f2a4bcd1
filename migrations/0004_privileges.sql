-- Who may do what: the group roles analytics_writer and analytics_reader, of which login roles are made members by
-- whoever deploys. A function, since it must run again when an administrator has made a role that was missing.

-- Makes the roles if it may, grants them what they need, and returns the statements that somebody else must run.
CREATE FUNCTION grant_analytics_privileges() RETURNS SETOF text LANGUAGE plpgsql AS $$
DECLARE
    role_name text;
BEGIN
    FOREACH role_name IN ARRAY ARRAY['analytics_writer', 'analytics_reader'] LOOP
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = role_name) THEN
                EXECUTE format('CREATE ROLE %I NOLOGIN', role_name);
            END IF;
        EXCEPTION
            -- Roles belong to the whole cluster: another database's migration may have been first.
            WHEN duplicate_object OR unique_violation THEN NULL;
            WHEN insufficient_privilege THEN RETURN NEXT format('CREATE ROLE %I NOLOGIN;', role_name);
        END;
    END LOOP;

    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'analytics_writer') THEN
        GRANT USAGE ON SCHEMA public TO analytics_writer;
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO analytics_writer;
        GRANT INSERT ON analytics_events, event_ids, rule_identities, event_series, event_counts, ingest_offsets,
            ingest_ledger, dead_letters TO analytics_writer;
        GRANT UPDATE ON event_counts, ingest_offsets, ingest_ledger, dead_letters TO analytics_writer;
        -- For the staging table of replays.
        EXECUTE format('GRANT TEMPORARY ON DATABASE %I TO analytics_writer', current_database());
        GRANT EXECUTE ON FUNCTION create_event_partition(timestamptz), drop_event_partitions(timestamptz)
            TO analytics_writer;
    END IF;

    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'analytics_reader') THEN
        GRANT USAGE ON SCHEMA public TO analytics_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO analytics_reader;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO analytics_reader;
    END IF;
END $$;

COMMENT ON FUNCTION grant_analytics_privileges() IS
    'Makes analytics_writer and analytics_reader and grants them what they need; returns what an administrator must run first';

REVOKE EXECUTE ON FUNCTION grant_analytics_privileges() FROM PUBLIC;

SELECT grant_analytics_privileges();
