-- What happened: the events themselves, and where ids that came from outside lie.

-- Range-partitioned by month; columns as the original service names them, plus the actor. The one index serves "newest
-- first", every time window and, since ids that we make begin with their millisecond, the look-up by id. A further
-- index must earn its place in the benchmark: random keys are the whole cost of a write.
CREATE TABLE analytics_events (
    id          uuid         NOT NULL,
    event_type  varchar(120) NOT NULL,
    source      varchar(120) NOT NULL,
    occurred_at timestamptz  NOT NULL,
    ingested_at timestamptz  NOT NULL DEFAULT now(),
    tenant_id   varchar(64),
    payload     jsonb        NOT NULL,
    actor_id    varchar(128),
    PRIMARY KEY (occurred_at, id)
) PARTITION BY RANGE (occurred_at);

COMMENT ON TABLE analytics_events IS 'One row per event, never changed; partitions analytics_events_YYYY_MM hold a month (UTC) each';
COMMENT ON COLUMN analytics_events.id IS 'The producer''s own id, else UUIDv8: milliseconds of occurred_at, then bits of a digest of what identifies the event';
COMMENT ON COLUMN analytics_events.event_type IS 'What happened, for example challenges.solution-completed';
COMMENT ON COLUMN analytics_events.source IS 'The service that says so, for example challenges-service';
COMMENT ON COLUMN analytics_events.occurred_at IS 'When it happened, microseconds, digits beyond cut';
COMMENT ON COLUMN analytics_events.ingested_at IS 'When the transaction that stored it began';
COMMENT ON COLUMN analytics_events.tenant_id IS 'Whose data it is; NULL is no tenant, an empty string is a tenant';
COMMENT ON COLUMN analytics_events.payload IS 'All that the producer said; upstream families have one member …Iso added, their time in RFC 3339';
COMMENT ON COLUMN analytics_events.actor_id IS 'Who did it: actorId, userId, studentId or student_id as the producer wrote it';

CREATE TABLE event_ids (
    id           uuid        PRIMARY KEY,
    occurred_at  timestamptz NOT NULL,
    request_hash bytea
);

COMMENT ON TABLE event_ids IS 'Ids that came from outside: unique whatever their time; ids made here need no row';
COMMENT ON COLUMN event_ids.id IS 'The id as it came';
COMMENT ON COLUMN event_ids.occurred_at IS 'With id, the key of the row in analytics_events';
COMMENT ON COLUMN event_ids.request_hash IS 'SHA-256 of the HTTP request''s body that brought it, NULL for Kafka: tells a repeat from another request under one key';

-- Tables that only ever grow by COPY are otherwise vacuumed too late for index-only scans.
ALTER TABLE event_ids SET (autovacuum_vacuum_insert_scale_factor = 0.05);

CREATE TABLE rule_identities (
    identity    text        PRIMARY KEY,
    definition  text        NOT NULL,
    accepted_at timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE rule_identities IS 'What the ids of upstream events are made of; a worker that would make others does not start';
COMMENT ON COLUMN rule_identities.identity IS 'Name of the identity, for example execution.analytics/1';
COMMENT ON COLUMN rule_identities.definition IS 'Its key and time fields';
COMMENT ON COLUMN rule_identities.accepted_at IS 'When it was first used, or accepted by migrate --accept-rules';

CREATE TABLE event_retention (
    singleton boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    horizon   timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO event_retention DEFAULT VALUES;

COMMENT ON TABLE event_retention IS 'One row: how far back events are kept';
COMMENT ON COLUMN event_retention.singleton IS 'Makes a second row impossible';
COMMENT ON COLUMN event_retention.horizon IS 'Events that occurred before are counted as expired and not stored; moves forward only';

-- Both functions run as the tables' owner, so that the writer needs no ownership. Names are qualified: nobody's table or
-- function can pose as ours. They exclude each other by an advisory lock until the transaction's end.

-- A table is made and then attached: PARTITION OF would wait for every open writer and stop all that come after.
-- False if the month lies before the horizon: what was dropped must not come back.
CREATE FUNCTION create_event_partition(moment timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    month_start timestamptz := date_trunc('month', moment AT TIME ZONE 'UTC') AT TIME ZONE 'UTC';
    month_end   timestamptz := (date_trunc('month', moment AT TIME ZONE 'UTC') + interval '1 month') AT TIME ZONE 'UTC';
    name        text := to_char(moment AT TIME ZONE 'UTC', '"analytics_events_"YYYY_MM');
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended('analytics_events partitions', 0));
    IF month_end <= (SELECT horizon FROM public.event_retention) THEN
        RETURN false;
    END IF;
    -- A table of that name that was detached is somebody's archive: making it again fails, with its name.
    IF NOT EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'public.analytics_events'::regclass
                   AND inhrelid = to_regclass(format('public.%I', name))) THEN
        EXECUTE format('CREATE TABLE public.%I (LIKE public.analytics_events INCLUDING ALL)', name);
        EXECUTE format('ALTER TABLE public.%I SET (autovacuum_vacuum_insert_scale_factor = 0.05)', name);
        EXECUTE format('ALTER TABLE public.analytics_events ATTACH PARTITION public.%I FOR VALUES FROM (%L) TO (%L)',
                       name, month_start, month_end);
    END IF;
    RETURN true;
END $$;

COMMENT ON FUNCTION create_event_partition(timestamptz) IS
    'Makes the partition of analytics_events that holds this moment, if it is missing and not beyond retention';

-- The horizon moves first, then whole partitions before it go. The caller sets a short lock_timeout and repeats.
CREATE FUNCTION drop_event_partitions(new_horizon timestamptz) RETURNS SETOF text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    name text;
BEGIN
    IF new_horizon IS NULL OR new_horizon > now() THEN
        RAISE EXCEPTION 'the retention horizon must lie in the past, not at %', coalesce(new_horizon::text, 'NULL')
            USING ERRCODE = '22023';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('analytics_events partitions', 0));
    UPDATE public.event_retention SET horizon = greatest(horizon, new_horizon);
    FOR name IN
        SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
        WHERE i.inhparent = 'public.analytics_events'::regclass
          AND (to_date(right(c.relname, 7), 'YYYY_MM') + interval '1 month') AT TIME ZONE 'UTC'
              <= (SELECT horizon FROM public.event_retention)
        ORDER BY c.relname
    LOOP
        EXECUTE format('DROP TABLE public.%I', name);
        RETURN NEXT name;
    END LOOP;
END $$;

COMMENT ON FUNCTION drop_event_partitions(timestamptz) IS
    'Moves the retention horizon forward and drops the partitions that lie wholly before it; returns their names';

REVOKE EXECUTE ON FUNCTION create_event_partition(timestamptz), drop_event_partitions(timestamptz) FROM PUBLIC;
