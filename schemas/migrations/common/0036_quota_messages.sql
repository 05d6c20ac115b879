-- Whoever may read a tenant's bill hears of a quota that runs out by e-mail too.

-- A message without a secret needs no seal: what it says is in `content`.
ALTER TABLE weir.outgoing_message ALTER COLUMN sealed DROP NOT NULL;
ALTER TABLE weir.outgoing_message ADD COLUMN content jsonb;
ALTER TABLE weir.outgoing_message DROP CONSTRAINT outgoing_message_kind_check;
ALTER TABLE weir.outgoing_message ADD CONSTRAINT outgoing_message_kind_check
    CHECK (kind IN ('invitation', 'welcome', 'password_reset', 'quota_warning'));
ALTER TABLE weir.outgoing_message ADD CONSTRAINT outgoing_message_content_check CHECK ((sealed IS NULL) <> (content IS NULL));

-- Called where a notice comes into being, in its transaction: the notice, the message and the job that sends it are one.
CREATE FUNCTION weir.quota_notice_messages() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog
AS $$
DECLARE
    jobs weir_jobs.procrastinate_job_to_defer_v1[];
BEGIN
    WITH posted AS (
        INSERT INTO weir.outgoing_message (message_id, tenant_id, kind, recipient, content)
        SELECT 'msg_' || replace(gen_random_uuid()::text, '-', ''), n.tenant_id, 'quota_warning', u.email,
               jsonb_build_object('organization', t.name, 'name', u.name, 'plan', t.plan, 'meter', n.meter, 'percent', n.percent,
                                  'month', to_char(n.month AT TIME ZONE 'UTC', 'YYYY-MM'), 'used', n.used,
                                  'included', n.included, 'noticed_at', weir.shown_time(n.noticed_at))
        FROM new_notices n JOIN weir.tenant t USING (tenant_id)
        JOIN weir.app_user u ON u.tenant_id = n.tenant_id AND u.active AND u.role IN ('owner', 'manager')
        ORDER BY n.tenant_id, u.user_id
        RETURNING tenant_id, message_id)
    SELECT array_agg(ROW('messages', 'send_message', 0, NULL, NULL,
                         jsonb_build_object('tenant_id', p.tenant_id, 'message_id', p.message_id), NULL)
                     ::weir_jobs.procrastinate_job_to_defer_v1) INTO jobs FROM posted p;
    IF jobs IS NOT NULL THEN
        PERFORM weir_jobs.procrastinate_defer_jobs_v1(jobs);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER message AFTER INSERT ON weir.quota_notice REFERENCING NEW TABLE AS new_notices
    FOR EACH STATEMENT EXECUTE FUNCTION weir.quota_notice_messages();
