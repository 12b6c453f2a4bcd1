-- How long the text of a payload is, so that a reader knows before PostgreSQL makes it: `{"x": [1e131071, …]}` of 81 KB
-- becomes 1.2 GB. A column without a default is a change of the catalogue alone; the writer fills it for long texts, the
-- next migration for those stored before. Suits the previous release too, which leaves it out.

-- The table is locked for the blink of an eye, but whoever comes while this waits for an open transaction would wait too:
-- it waits for two seconds at most, lets the others pass, and tries again.
DO $$
DECLARE
    attempts integer := 0;
BEGIN
    LOOP
        attempts := attempts + 1;
        BEGIN
            SET LOCAL lock_timeout = '2s';
            ALTER TABLE analytics_events ADD COLUMN payload_bytes bigint;
            EXIT;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            IF attempts = 30 THEN
                RAISE EXCEPTION 'analytics_events was never free for a moment within two minutes: end what holds it (pg_locks), then repeat'
                    USING ERRCODE = 'lock_not_available';
            END IF;
            PERFORM pg_sleep(2);
        END;
    END LOOP;
END $$;

COMMENT ON COLUMN analytics_events.payload_bytes IS
    'Bytes of payload::text if more than 16384. NULL: fewer, or stored by a release before 0.2 and never measured';
