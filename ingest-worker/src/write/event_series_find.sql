SELECT k.position, s.id
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS k (tenant_id, source, event_type, position)
JOIN event_series s
  ON (s.tenant_id IS NULL) = (k.tenant_id IS NULL) AND coalesce(s.tenant_id, '') = coalesce(k.tenant_id, '')
 AND s.source = k.source AND s.event_type = k.event_type
