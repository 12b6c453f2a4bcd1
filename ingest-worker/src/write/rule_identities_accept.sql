INSERT INTO rule_identities AS known (identity, definition)
SELECT * FROM unnest($1::text[], $2::text[])
ON CONFLICT (identity) DO UPDATE SET definition = excluded.definition, accepted_at = now()
WHERE known.definition <> excluded.definition
