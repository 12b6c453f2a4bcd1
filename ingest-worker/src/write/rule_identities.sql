-- A new identity is taken down; what is known otherwise comes back with what is known.
WITH ours AS (
    SELECT * FROM unnest($1::text[], $2::text[]) AS o (identity, definition)
), taken_down AS (
    INSERT INTO rule_identities (identity, definition)
    SELECT identity, definition FROM ours ORDER BY identity
    ON CONFLICT DO NOTHING
)
SELECT o.identity, o.definition, k.definition
FROM ours o JOIN rule_identities k ON k.identity = o.identity
WHERE k.definition <> o.definition
ORDER BY o.identity
