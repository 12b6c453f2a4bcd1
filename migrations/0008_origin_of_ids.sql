-- What an id from outside brought first, and from where, so that another content under the same id is seen; and how dead
-- letters keep names of headers that are no text, and are recognized. Nullable columns and a small index, which change no
-- row: suits the previous release, which names the columns that it writes.
ALTER TABLE event_ids
    ADD COLUMN content_digest bytea,
    ADD COLUMN topic          text,
    ADD COLUMN partition      integer,
    ADD COLUMN record_offset  bigint;

COMMENT ON COLUMN event_ids.content_digest IS 'First 16 bytes of SHA-256 of what the event says; NULL for ids from before this column, which are not compared';
COMMENT ON COLUMN event_ids.topic IS 'Kafka topic of the record that brought the id first, or @http';
COMMENT ON COLUMN event_ids.partition IS 'Its partition, or the HTTP lane''s shard';
COMMENT ON COLUMN event_ids.record_offset IS 'Its offset, NULL for HTTP';

COMMENT ON COLUMN dead_letters.record_headers IS 'Array of [name, value in base64 or null], in the record''s order; a name that is not UTF-8 or has U+0000 is there as far as it is text, with its bytes in base64 as a third element';

-- Dead letters of events that lay too far ahead, by which a record that is read again is recognized. There are few.
CREATE INDEX dead_letters_too_early ON dead_letters (topic, partition, record_offset)
    WHERE state = 'open' AND class = 'time_out_of_range';
