-- While an episode is open its peak, proven and possible time grow with nearly every reading. The row follows at once; a version
-- (history, topic `alerts`) that shows the growth waits until `show_at`, so that an excursion of a month is no 40 000 versions.

ALTER TABLE weir.alert_episode
    ADD COLUMN found_at timestamptz NOT NULL DEFAULT now(),
    -- NULL: the newest version shows all.
    ADD COLUMN show_at timestamptz,
    SET (fillfactor = 70);
CREATE INDEX alert_episode_unshown ON weir.alert_episode (show_at) WHERE show_at IS NOT NULL;

-- After 5 s at first, later after a twentieth of the time since the episode was found, after 10 min at the latest.
CREATE FUNCTION weir.growth_shown_at(p_found_at timestamptz, p_now timestamptz) RETURNS timestamptz
LANGUAGE sql IMMUTABLE PARALLEL SAFE
AS $$ SELECT p_now + least(interval '10 min', greatest(interval '5 s', (p_now - p_found_at) / 20)) $$;
