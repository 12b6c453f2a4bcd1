-- How far each consumer group has read, what became of every record, and what could not become an event.

CREATE TABLE ingest_offsets (
    consumer_group   text        NOT NULL,
    topic            text        NOT NULL,
    partition        integer     NOT NULL,
    incarnation      integer     NOT NULL DEFAULT 1,
    start_offset     bigint      NOT NULL,
    next_offset      bigint      NOT NULL,
    epoch            bigint      NOT NULL,
    backend_pid      integer     NOT NULL,
    backend_start    timestamptz NOT NULL,
    claimed_by       text        NOT NULL,
    claimed_at       timestamptz NOT NULL DEFAULT now(),
    events           bigint      NOT NULL DEFAULT 0,
    duplicates       bigint      NOT NULL DEFAULT 0,
    dead_letters     bigint      NOT NULL DEFAULT 0,
    tombstones       bigint      NOT NULL DEFAULT 0,
    gaps             bigint      NOT NULL DEFAULT 0,
    expired          bigint      NOT NULL DEFAULT 0,
    last_offset      bigint,
    last_fingerprint bytea,
    last_timestamp   timestamptz,
    updated_at       timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, topic, partition),
    CONSTRAINT ingest_offsets_balance CHECK
        (next_offset - start_offset = events + duplicates + dead_letters + tombstones + gaps + expired)
) WITH (fillfactor = 50);

COMMENT ON TABLE ingest_offsets IS 'The authority on offsets: written in the transaction of the events. Topic @http is the HTTP commands'' lane, partition its shard';
COMMENT ON COLUMN ingest_offsets.consumer_group IS 'Kafka consumer group';
COMMENT ON COLUMN ingest_offsets.topic IS 'Kafka topic, or @http';
COMMENT ON COLUMN ingest_offsets.partition IS 'Kafka partition, or the HTTP lane''s shard';
COMMENT ON COLUMN ingest_offsets.incarnation IS 'Counts how often the topic was recreated or truncated';
COMMENT ON COLUMN ingest_offsets.start_offset IS 'Where reading of this incarnation began';
COMMENT ON COLUMN ingest_offsets.next_offset IS 'The first offset not yet accounted for';
COMMENT ON COLUMN ingest_offsets.epoch IS 'Counts claims; only the worker with the latest epoch may write';
COMMENT ON COLUMN ingest_offsets.backend_pid IS 'PostgreSQL backend of the lane that holds the claim';
COMMENT ON COLUMN ingest_offsets.backend_start IS 'When that backend started: with the pid it is unique';
COMMENT ON COLUMN ingest_offsets.claimed_by IS 'The worker: host, process id and start';
COMMENT ON COLUMN ingest_offsets.claimed_at IS 'When it claimed the partition';
COMMENT ON COLUMN ingest_offsets.events IS 'Records that became events';
COMMENT ON COLUMN ingest_offsets.duplicates IS 'Records whose event was there already';
COMMENT ON COLUMN ingest_offsets.dead_letters IS 'Records that could not become an event';
COMMENT ON COLUMN ingest_offsets.tombstones IS 'Records without a value';
COMMENT ON COLUMN ingest_offsets.gaps IS 'Offsets without a record: transaction markers, aborted or compacted records, and the reasons in ingest_ledger';
COMMENT ON COLUMN ingest_offsets.expired IS 'Records whose event lies before the retention horizon';
COMMENT ON COLUMN ingest_offsets.last_offset IS 'Offset of the last record read, NULL before the first';
COMMENT ON COLUMN ingest_offsets.last_fingerprint IS 'First 16 bytes of SHA-256 of that record: tells a recreated topic';
COMMENT ON COLUMN ingest_offsets.last_timestamp IS 'That record''s timestamp';
COMMENT ON COLUMN ingest_offsets.updated_at IS 'When this row last changed';

CREATE TABLE ingest_ledger (
    consumer_group text        NOT NULL,
    topic          text        NOT NULL,
    partition      integer     NOT NULL,
    incarnation    integer     NOT NULL,
    epoch          bigint      NOT NULL,
    from_offset    bigint      NOT NULL,
    reason         text        NOT NULL DEFAULT 'consumed'
                   CHECK (reason IN ('consumed', 'not_delivered', 'retention', 'new_incarnation', 'skip')),
    to_offset      bigint      NOT NULL,
    events         bigint      NOT NULL DEFAULT 0,
    duplicates     bigint      NOT NULL DEFAULT 0,
    dead_letters   bigint      NOT NULL DEFAULT 0,
    tombstones     bigint      NOT NULL DEFAULT 0,
    gaps           bigint      NOT NULL DEFAULT 0,
    expired        bigint      NOT NULL DEFAULT 0,
    worker         text        NOT NULL,
    started_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (consumer_group, topic, partition, incarnation, epoch, from_offset, reason)
) WITH (fillfactor = 70);

COMMENT ON TABLE ingest_ledger IS 'Where every offset went: one row per claim and partition, extended by each batch, and one per gap with its reason';
COMMENT ON COLUMN ingest_ledger.consumer_group IS 'As in ingest_offsets';
COMMENT ON COLUMN ingest_ledger.topic IS 'As in ingest_offsets';
COMMENT ON COLUMN ingest_ledger.partition IS 'As in ingest_offsets';
COMMENT ON COLUMN ingest_ledger.incarnation IS 'As in ingest_offsets';
COMMENT ON COLUMN ingest_ledger.epoch IS 'The claim under which it was written';
COMMENT ON COLUMN ingest_ledger.from_offset IS 'First offset of the range';
COMMENT ON COLUMN ingest_ledger.reason IS 'consumed: a claim''s row, its gaps included; else why this range held no record for us';
COMMENT ON COLUMN ingest_ledger.to_offset IS 'First offset after the range';
COMMENT ON COLUMN ingest_ledger.events IS 'As in ingest_offsets, for this range; the totals of a claim add up to to_offset - from_offset';
COMMENT ON COLUMN ingest_ledger.duplicates IS 'As in ingest_offsets, for this range';
COMMENT ON COLUMN ingest_ledger.dead_letters IS 'As in ingest_offsets, for this range';
COMMENT ON COLUMN ingest_ledger.tombstones IS 'As in ingest_offsets, for this range';
COMMENT ON COLUMN ingest_ledger.gaps IS 'As in ingest_offsets, for this range';
COMMENT ON COLUMN ingest_ledger.expired IS 'As in ingest_offsets, for this range';
COMMENT ON COLUMN ingest_ledger.worker IS 'Who wrote it: host, process id and start';
COMMENT ON COLUMN ingest_ledger.started_at IS 'When the claim was made or the gap was met';
COMMENT ON COLUMN ingest_ledger.updated_at IS 'When the latest batch extended it';

CREATE TABLE dead_letters (
    digest           bytea       PRIMARY KEY,
    topic            text        NOT NULL,
    partition        integer     NOT NULL,
    incarnation      integer     NOT NULL,
    record_offset    bigint      NOT NULL,
    record_key       bytea,
    record_value     bytea,
    record_headers   jsonb       NOT NULL DEFAULT '[]',
    record_timestamp timestamptz,
    timestamp_type   text        CHECK (timestamp_type IN ('create_time', 'log_append_time')),
    class            text        NOT NULL,
    sentence         text        NOT NULL,
    refused_at       timestamptz NOT NULL DEFAULT now(),
    state            text        NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'redriven', 'discarded')),
    settled_at       timestamptz
);

COMMENT ON TABLE dead_letters IS 'Records that could not become an event, whole, with the reason and what became of them';
COMMENT ON COLUMN dead_letters.digest IS 'SHA-256 of topic, partition, offset, record timestamp, key and value: a record read twice is one dead letter';
COMMENT ON COLUMN dead_letters.topic IS 'Kafka topic';
COMMENT ON COLUMN dead_letters.partition IS 'Kafka partition';
COMMENT ON COLUMN dead_letters.incarnation IS 'As in ingest_offsets';
COMMENT ON COLUMN dead_letters.record_offset IS 'Kafka offset';
COMMENT ON COLUMN dead_letters.record_key IS 'The key''s bytes, NULL if the record has none';
COMMENT ON COLUMN dead_letters.record_value IS 'The value''s bytes as they came; encode(record_value, ''escape'') shows any, convert_from(record_value, ''UTF8'') those that are UTF-8';
COMMENT ON COLUMN dead_letters.record_headers IS 'Array of [name, value in base64 or null], in the record''s order';
COMMENT ON COLUMN dead_letters.record_timestamp IS 'The record''s timestamp, milliseconds';
COMMENT ON COLUMN dead_letters.timestamp_type IS 'Who set it: the producer (create_time) or the broker (log_append_time)';
COMMENT ON COLUMN dead_letters.class IS 'The closed list in the README, with the remedy for each';
COMMENT ON COLUMN dead_letters.sentence IS 'What came and what was expected, for people';
COMMENT ON COLUMN dead_letters.refused_at IS 'When it was stored';
COMMENT ON COLUMN dead_letters.state IS 'open, redriven or discarded';
COMMENT ON COLUMN dead_letters.settled_at IS 'When it left the state open';
