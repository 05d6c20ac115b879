-- What the planner believes of a table may be far from the truth: one analysed while a great transaction was still filling it
-- counts as empty, and joins of two such tables read one wholly for each row of the other, until it is analysed again.

-- Analyses the tables that statements of the stream join. Only those that changed since; called when a statement took too long.
CREATE FUNCTION weir.refresh_statistics() RETURNS text[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    v_tables text[];
    v_table text;
BEGIN
    SELECT coalesce(array_agg(format('weir.%I', s.relname) ORDER BY s.relname), '{}') INTO v_tables
    FROM pg_stat_user_tables s
    WHERE s.schemaname = 'weir'
      AND s.relname IN ('device', 'device_secret', 'sensor', 'sensor_state', 'sensor_day', 'sensor_assignment', 'site', 'site_version', 'unit',
          'unit_version', 'rule', 'rule_version', 'rule_work', 'place_work', 'alert_episode', 'usage', 'scan', 'live_head', 'topic_outbox')
      AND coalesce(greatest(s.last_analyze, s.last_autoanalyze), '-infinity') < clock_timestamp() - interval '5 seconds';
    FOREACH v_table IN ARRAY v_tables LOOP
        EXECUTE 'ANALYZE ' || v_table;
    END LOOP;
    RETURN v_tables;
END $$;
REVOKE ALL ON FUNCTION weir.refresh_statistics() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION weir.refresh_statistics() TO weir_writer;
