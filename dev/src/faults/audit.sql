-- Notes each row version of ingest_offsets. Its row is locked meanwhile, so that per partition the numbers are in the order
-- of the commits; what is rolled back leaves nothing.
CREATE SCHEMA audit;
CREATE TABLE audit.steps (
    number          bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    noted_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    transaction     bigint      NOT NULL DEFAULT txid_current(),
    backend         integer     NOT NULL DEFAULT pg_backend_pid(),
    consumer_group  text        NOT NULL,
    topic           text        NOT NULL,
    partition       integer     NOT NULL,
    incarnation     integer     NOT NULL,
    old_incarnation integer,
    epoch           bigint      NOT NULL,
    old_epoch       bigint,
    claimed_by      text        NOT NULL,
    next_offset     bigint      NOT NULL,
    old_next_offset bigint
);
CREATE INDEX ON audit.steps (consumer_group, topic, partition, number);

CREATE FUNCTION audit.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO audit.steps (consumer_group, topic, partition, incarnation, old_incarnation, epoch, old_epoch,
                                 claimed_by, next_offset, old_next_offset)
        VALUES (new.consumer_group, new.topic, new.partition, new.incarnation, old.incarnation, new.epoch, old.epoch,
                new.claimed_by, new.next_offset, old.next_offset);
    ELSE
        INSERT INTO audit.steps (consumer_group, topic, partition, incarnation, epoch, claimed_by, next_offset)
        VALUES (new.consumer_group, new.topic, new.partition, new.incarnation, new.epoch, new.claimed_by, new.next_offset);
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER note AFTER INSERT OR UPDATE ON ingest_offsets FOR EACH ROW EXECUTE FUNCTION audit.note();
