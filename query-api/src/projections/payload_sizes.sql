-- About how many bytes the payloads of the events ($1, $2), which lie between $3 and $4, take as text, without making it:
-- as in migration 9, numeric_send says what each number would take.
SELECT k.place::integer AS place, (pg_column_size(e.payload) + coalesce(numbers.bytes, 0))::bigint AS bytes
FROM unnest($1::timestamptz[], $2::uuid[]) WITH ORDINALITY AS k (occurred_at, id, place)
JOIN analytics_events e ON e.occurred_at = k.occurred_at AND e.id = k.id
CROSS JOIN LATERAL (
    SELECT sum(
        CASE WHEN length(n) = 8 THEN 1
             ELSE greatest(4 * weight + length((get_byte(n, 8) << 8 | get_byte(n, 9))::text), 1) + (get_byte(n, 4) >> 6)
        END + CASE WHEN scale > 0 THEN scale + 1 ELSE 0 END) AS bytes
    FROM jsonb_path_query(e.payload, 'strict $.** ? (@.type() == "number")') AS number
    CROSS JOIN LATERAL (SELECT numeric_send(number::numeric) AS n OFFSET 0) AS sent
    CROSS JOIN LATERAL (
        SELECT (get_byte(n, 2) << 8 | get_byte(n, 3)) - (get_byte(n, 2) >> 7 << 16) AS weight,
               get_byte(n, 6) << 8 | get_byte(n, 7) AS scale
    ) AS parts
) AS numbers
WHERE e.occurred_at BETWEEN $3::timestamptz AND $4::timestamptz
