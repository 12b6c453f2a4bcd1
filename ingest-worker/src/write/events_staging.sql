-- Made once per connection; emptied at every commit.
CREATE TEMPORARY TABLE IF NOT EXISTS event_staging (LIKE analytics_events INCLUDING DEFAULTS) ON COMMIT DELETE ROWS
