-- How many events per minute, so that a summary never scans events. Written in the events' own transaction, from really
-- new rows only; read by query-api.

CREATE TABLE event_series (
    id         integer      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id  varchar(64),
    source     varchar(120) NOT NULL,
    event_type varchar(120) NOT NULL
);

-- NULLS NOT DISTINCT would say the same, from PostgreSQL 15 on.
CREATE UNIQUE INDEX event_series_key
    ON event_series ((tenant_id IS NULL), (coalesce(tenant_id, '')), source, event_type);

COMMENT ON TABLE event_series IS 'One small number per tenant, source and event type: narrow keys for the counts';
COMMENT ON COLUMN event_series.id IS 'Stands for the three in event_counts';
COMMENT ON COLUMN event_series.tenant_id IS 'As in analytics_events; NULL is no tenant';
COMMENT ON COLUMN event_series.source IS 'As in analytics_events';
COMMENT ON COLUMN event_series.event_type IS 'As in analytics_events';

-- One row an hour with its minutes as an array: a tenth of the rows, and of the write cost, that minute rows have.
-- Half-filled pages keep the updates on their page (HOT).
CREATE TABLE event_counts (
    hour      timestamptz NOT NULL,
    series_id integer     NOT NULL,
    shard     smallint    NOT NULL,
    total     bigint      NOT NULL,
    minutes   integer[]   NOT NULL CHECK (cardinality(minutes) = 60),
    PRIMARY KEY (hour, series_id, shard)
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.05);

COMMENT ON TABLE event_counts IS 'Events per hour and series; readers sum over shards';
COMMENT ON COLUMN event_counts.hour IS 'Start of the hour (UTC)';
COMMENT ON COLUMN event_counts.series_id IS 'Which tenant, source and type: event_series.id';
COMMENT ON COLUMN event_counts.shard IS 'Lets two lanes count one hour without waiting for each other''s row';
COMMENT ON COLUMN event_counts.total IS 'Events in the hour: the sum of minutes';
COMMENT ON COLUMN event_counts.minutes IS 'Events in each of the hour''s sixty minutes; minutes[1] is minute 0';
