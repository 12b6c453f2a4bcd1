-- The writer makes no temporary tables any more, so it is not granted them, and what was granted is taken back: where PUBLIC may
-- make them, as is PostgreSQL's default, nothing changes. Suits the previous release, whose `check` alone asks for it. The
-- function also names where it looks, so that it may be run by an administrator, whatever his search_path is.
CREATE OR REPLACE FUNCTION grant_analytics_privileges() RETURNS SETOF text
LANGUAGE plpgsql SET search_path = public, pg_temp AS $$
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
        GRANT EXECUTE ON FUNCTION create_event_partition(timestamptz), drop_event_partitions(timestamptz)
            TO analytics_writer;
    END IF;

    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'analytics_reader') THEN
        GRANT USAGE ON SCHEMA public TO analytics_reader;
        GRANT SELECT ON ALL TABLES IN SCHEMA public TO analytics_reader;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO analytics_reader;
    END IF;
END $$;

DO $$ BEGIN
    IF EXISTS (SELECT FROM pg_roles WHERE rolname = 'analytics_writer') THEN
        EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM analytics_writer', current_database());
    END IF;
END $$;
