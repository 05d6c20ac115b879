-- A scan as the API tells it, for `weir scan export SCAN json` by an operator.
CREATE FUNCTION public.scan_document(p_scan_id text) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog
AS $$ SELECT weir.scan_document(s) FROM weir.scan s WHERE s.scan_id = p_scan_id $$;
REVOKE EXECUTE ON FUNCTION public.scan_document FROM PUBLIC;
GRANT EXECUTE ON FUNCTION public.scan_document TO weir_operator;
