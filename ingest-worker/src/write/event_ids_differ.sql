-- Which of these ids were brought by another content the first time, and where that lies. Rows from before there were
-- digests have none and are not compared.
SELECT k.place, i.topic, i.partition, i.record_offset
FROM unnest($1::uuid[], $2::bytea[]) WITH ORDINALITY AS k (id, content_digest, place)
JOIN event_ids i ON i.id = k.id AND i.content_digest <> k.content_digest
