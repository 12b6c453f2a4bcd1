-- The ledger's rows in words, as they are written now: the holes of a claim are one row, not one each, since a producer of
-- small transactions leaves a hole behind every record. Comments only: suits the previous release too.
COMMENT ON TABLE ingest_ledger IS 'Where every offset went: one row per claim and partition, extended by each batch, one for all its holes, and one per break with its reason';
COMMENT ON COLUMN ingest_ledger.from_offset IS 'First offset of the range; of not_delivered: where the claim begins';
COMMENT ON COLUMN ingest_ledger.to_offset IS 'First offset after the range; of not_delivered: where the claim''s last hole ends';
COMMENT ON COLUMN ingest_ledger.reason IS 'consumed: a claim''s row, all its gaps included. These say why: not_delivered (markers of transactions, aborted or compacted records: the holes of the claim together), retention (gone from Kafka before it was read), new_incarnation (the topic was recreated or truncated, this one ended here), skip';
COMMENT ON COLUMN ingest_ledger.gaps IS 'As in ingest_offsets, for this range; of not_delivered: the holes, which need not fill the range';
COMMENT ON COLUMN ingest_ledger.started_at IS 'When the claim was made, or the first hole or the break was met';

COMMENT ON COLUMN ingest_offsets.incarnation IS 'Counts how often the topic was recreated or truncated; start_offset and all totals are of this one, those before are in ingest_ledger';
COMMENT ON COLUMN ingest_offsets.epoch IS 'When it was last claimed, in milliseconds, or one more than the epoch before: never the same twice, also where an older copy was restored; only the worker with the latest epoch may write';
