/* Callbacks in Go: the library's `user` is a cgo.Handle. */
#include <dsv4.h>
#include <stdint.h>

dsv4_status open_model(dsv4_model_params *params, uintptr_t log, dsv4_model **model, dsv4_error *error);
dsv4_status watch(dsv4_session *session, uintptr_t user);
