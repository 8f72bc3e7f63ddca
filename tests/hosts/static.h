#include <stddef.h>
#include <stdint.h>

/* Generates `most` tokens after `prompt`, telling `result` each; gives a dsv4_status. */
int run_static(const char *prompt, size_t most);

void result(uint32_t token, const char *text, size_t len);
