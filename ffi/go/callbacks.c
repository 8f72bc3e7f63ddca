#include "callbacks.h"
#include "_cgo_export.h"

static void log_line(void *user, int level, const char *line) { dsv4GoLog((uintptr_t)user, level, (char *)line); }

static int progress(void *user, const dsv4_progress *now) {
    (void)now;
    return dsv4GoCancelled((uintptr_t)user);
}

dsv4_status open_model(dsv4_model_params *params, uintptr_t log, dsv4_model **model, dsv4_error *error) {
    if (log) {
        params->log = log_line;
        params->log_user = (void *)log;
    }
    return dsv4_model_open(params, model, error);
}

dsv4_status watch(dsv4_session *session, uintptr_t user) {
    return dsv4_session_set_progress(session, user ? progress : NULL, (void *)user);
}
