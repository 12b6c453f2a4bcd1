-- A sentence for each step of an offset that is not allowed.
WITH steps AS (
    SELECT *, lag(next_offset) OVER history AS reached, lag(epoch) OVER history AS last_epoch,
           lag(incarnation) OVER history AS last_incarnation
    FROM audit.steps
    WINDOW history AS (PARTITION BY consumer_group, topic, partition ORDER BY number)
), places AS (
    SELECT *, topic || ' ' || partition || ', step ' || number || ': ' AS place FROM steps
)
(SELECT place || 'the offset went back from ' || old_next_offset || ' to ' || next_offset
 FROM places WHERE next_offset < old_next_offset AND incarnation = old_incarnation LIMIT 5)
UNION ALL
(SELECT place || 'begins at ' || old_next_offset || ', the step before reached ' || reached
 FROM places WHERE old_next_offset <> reached LIMIT 5)
UNION ALL
(SELECT place || 'claim ' || epoch || ' follows claim ' || last_epoch FROM places WHERE epoch < last_epoch LIMIT 5)
UNION ALL
(SELECT place || 'incarnation ' || incarnation || ' follows ' || last_incarnation
 FROM places WHERE incarnation < last_incarnation LIMIT 5)
