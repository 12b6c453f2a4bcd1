-- Notes how long the texts of payloads are that were stored before the writer refused numbers that grow: a reader puts a
-- marker in the place of those over its limit. A transaction of its own, after the one that locked the table: this one
-- only reads, and locks the few rows that it finds. Suits the previous release too.

-- No text is made: numeric_send says of each number how many base-10000 digits it has, its weight, sign, scale and first
-- such digit. Of what is no number the text is about as long as the column.
DO $$
DECLARE
    found record;
BEGIN
    FOR found IN
        SELECT occurred_at, id, pg_column_size(payload) + numbers.bytes AS bytes
        FROM analytics_events
        CROSS JOIN LATERAL (
            SELECT sum(
                CASE WHEN length(n) = 8 THEN 1 -- Zero has no digits.
                     ELSE greatest(4 * weight + length((get_byte(n, 8) << 8 | get_byte(n, 9))::text), 1) + (get_byte(n, 4) >> 6)
                END + CASE WHEN scale > 0 THEN scale + 1 ELSE 0 END) AS bytes
            FROM jsonb_path_query(payload, 'strict $.** ? (@.type() == "number")') AS number
            CROSS JOIN LATERAL (SELECT numeric_send(number::numeric) AS n OFFSET 0) AS sent
            CROSS JOIN LATERAL (
                SELECT (get_byte(n, 2) << 8 | get_byte(n, 3)) - (get_byte(n, 2) >> 7 << 16) AS weight,
                       get_byte(n, 6) << 8 | get_byte(n, 7) AS scale
            ) AS parts
        ) AS numbers
        WHERE payload_bytes IS NULL
          -- By far most payloads have no number that grows.
          AND payload @? 'strict $.** ? (@.type() == "number" && (@ == 0 || @ > 1e99 || @ < -1e99 || (@ < 1e-99 && @ > -1e-99)))'
          AND numbers.bytes > 16384
    LOOP
        UPDATE analytics_events SET payload_bytes = found.bytes WHERE occurred_at = found.occurred_at AND id = found.id;
    END LOOP;
END $$;
