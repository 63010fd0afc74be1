/* Stands for the NVIDIA driver's library (NVML) where there is none: it tells of made-up GPUs, so
 * that code which chooses by them can be taken down its branches. It computes nothing, and no
 * result may come of it.
 *
 * STUB_GPUS       cards separated by |, each "name;bytes;capability;uuid", and for one in MIG mode
 *                 ";slice,bytes,uuid/slice,bytes,uuid"; bytes "-" where it has none of its own.
 *                 Unset: no driver answers. A name that begins with ! is of a card that is locked
 *                 away from this process.
 * STUB_PROCESSES  "card,pid,bytes" separated by |: the processes that compute on a card; an entry
 *                 whose bytes are "-" is one of which the driver does not say
 * STUB_USED       bytes of a card's memory that are used, separated by |; 0 where nothing is said, "-"
 *                 for one whose driver does not tell
 * STUB_MILLIJOULES  what a card has used in all, separated by |; "-" for one without a counter
 * STUB_DRIVER, STUB_CUDA  the driver's version and the CUDA it brings: "580.95.05", "13000"
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, NO_PERMISSION = 4, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9 };
enum { CARDS = 16, SLICES = 8, TEXT = 96 };
#define API __attribute__((visibility("default"))) int

typedef unsigned long long bytes_t;
typedef struct { char name[TEXT], memory[TEXT], capability[TEXT], uuid[TEXT], slices[1024]; int place; } card_t;
typedef struct { unsigned pid; bytes_t used; unsigned gpu, compute; } process_t;

static card_t cards[CARDS], slices[CARDS][SLICES];

/* The n-th part of a text between separators, into a buffer; false where there is none. */
static int part(const char *text, char separator, int n, char *into, size_t size) {
    while (text && n--) { text = strchr(text, separator); text = text ? text + 1 : 0; }
    if (!text) return 0;
    size_t length = strcspn(text, (char[]){separator, 0});
    if (length >= size) length = size - 1;
    memcpy(into, text, length);
    into[length] = 0;
    return 1;
}

static card_t *card(int n) {
    char text[2048];
    const char *all = getenv("STUB_GPUS");
    if (!all || !*all || n >= CARDS || !part(all, '|', n, text, sizeof text)) return 0;
    card_t *it = &cards[n];
    memset(it, 0, sizeof *it);
    it->place = n;
    part(text, ';', 0, it->name, TEXT);
    part(text, ';', 1, it->memory, TEXT);
    part(text, ';', 2, it->capability, TEXT);
    part(text, ';', 3, it->uuid, TEXT);
    part(text, ';', 4, it->slices, sizeof it->slices);
    return it;
}

static int listed(const char *variable, int n, char *into) {
    const char *all = getenv(variable);
    return all && part(all, '|', n, into, TEXT);
}

API nvmlInitWithFlags(unsigned flags) { (void)flags; return getenv("STUB_GPUS") ? SUCCESS : NO_DRIVER; }
API nvmlInit(void) { return nvmlInitWithFlags(0); }
API nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
API nvmlShutdown(void) { return SUCCESS; }
__attribute__((visibility("default"))) const char *nvmlErrorString(int code) { (void)code; return "stub"; }

API nvmlSystemGetDriverVersion(char *into, unsigned size) {
    const char *version = getenv("STUB_DRIVER");
    snprintf(into, size, "%s", version ? version : "580.95.05");
    return SUCCESS;
}
API nvmlSystemGetCudaDriverVersion_v2(int *version) {
    const char *cuda = getenv("STUB_CUDA");
    *version = atoi(cuda ? cuda : "13000");
    return SUCCESS;
}
API nvmlSystemGetCudaDriverVersion(int *version) { return nvmlSystemGetCudaDriverVersion_v2(version); }

API nvmlDeviceGetCount_v2(unsigned *count) {
    *count = 0;
    while (card(*count)) ++*count;
    return SUCCESS;
}
API nvmlDeviceGetHandleByIndex_v2(unsigned index, card_t **device) {
    *device = card(index);
    return !*device ? INVALID : (*device)->name[0] == '!' ? NO_PERMISSION : SUCCESS;
}
API nvmlDeviceGetMigDeviceHandleByIndex(card_t *it, unsigned index, card_t **device);
API nvmlDeviceGetHandleByUUID(const char *uuid, card_t **device) {
    card_t *whole;
    for (int n = 0; (whole = *device = card(n)); n++) {
        if (!strcmp(whole->uuid, uuid)) return SUCCESS;
        for (int slice = 0; slice < SLICES; slice++)
            if (nvmlDeviceGetMigDeviceHandleByIndex(whole, slice, device) == SUCCESS
                && !strcmp((*device)->uuid, uuid)) return SUCCESS;
    }
    return NOT_FOUND;
}
static int is_slice(card_t *it) { return it >= slices[0] && it < slices[0] + CARDS * SLICES; }
/* Of a slice: its place among those of its card, as NVML has it. */
API nvmlDeviceGetIndex(card_t *it, unsigned *index) {
    *index = is_slice(it) ? it - slices[it->place] : it->place;
    return SUCCESS;
}
API nvmlDeviceGetDeviceHandleFromMigDeviceHandle(card_t *it, card_t **device) {
    *device = card(it->place);
    return is_slice(it) ? SUCCESS : INVALID;
}
API nvmlDeviceGetName(card_t *it, char *into, unsigned size) { snprintf(into, size, "%s", it->name); return SUCCESS; }
API nvmlDeviceGetUUID(card_t *it, char *into, unsigned size) { snprintf(into, size, "%s", it->uuid); return SUCCESS; }
API nvmlDeviceGetCudaComputeCapability(card_t *it, int *major, int *minor) {
    return sscanf(it->capability, "%d.%d", major, minor) == 2 ? SUCCESS : NOT_SUPPORTED;
}
API nvmlDeviceGetMemoryInfo(card_t *it, bytes_t *total_free_used) {
    char text[TEXT] = "0";
    if (it->memory[0] == '-') return NOT_SUPPORTED;
    listed("STUB_USED", it->place, text);
    total_free_used[0] = strtoull(it->memory, 0, 10);
    total_free_used[2] = strtoull(text, 0, 10);
    total_free_used[1] = total_free_used[0] - total_free_used[2];
    return SUCCESS;
}
/* What the second version adds, the driver's own memory, is none here. */
API nvmlDeviceGetMemoryInfo_v2(card_t *it, bytes_t *version_total_reserved_free_used) {
    char text[TEXT] = "0";
    bytes_t first[3];
    if (listed("STUB_USED", it->place, text) && text[0] == '-') return NOT_SUPPORTED;
    int code = nvmlDeviceGetMemoryInfo(it, first);
    if (code != SUCCESS) return code;
    bytes_t said[] = {first[0], 0, first[1], first[2]};
    memcpy(version_total_reserved_free_used + 1, said, sizeof said);
    return SUCCESS;
}

API nvmlDeviceGetMigMode(card_t *it, unsigned *current, unsigned *pending) {
    if (it->capability[0] < '8') return NOT_SUPPORTED;
    *current = *pending = it->slices[0] != 0;
    return SUCCESS;
}
API nvmlDeviceGetMaxMigDeviceCount(card_t *it, unsigned *count) { (void)it; *count = SLICES - 1; return SUCCESS; }
API nvmlDeviceGetMigDeviceHandleByIndex(card_t *it, unsigned index, card_t **device) {
    char text[TEXT * 3];
    if (index >= SLICES || !it->slices[0] || !part(it->slices, '/', index, text, sizeof text)) return NOT_FOUND;
    *device = &slices[it->place][index];
    memset(*device, 0, sizeof **device);
    (*device)->place = it->place;
    part(text, ',', 0, (*device)->name, TEXT);
    part(text, ',', 1, (*device)->memory, TEXT);
    part(text, ',', 2, (*device)->uuid, TEXT);
    return SUCCESS;
}

API nvmlDeviceGetTotalEnergyConsumption(card_t *it, bytes_t *millijoules) {
    char text[TEXT];
    if (!listed("STUB_MILLIJOULES", it->place, text) || text[0] == '-') return NOT_SUPPORTED;
    *millijoules = strtoull(text, 0, 10);
    return SUCCESS;
}
API nvmlDeviceGetComputeRunningProcesses_v3(card_t *it, unsigned *count, process_t *into) {
    char text[TEXT], field[TEXT];
    unsigned room = *count, found = 0;
    for (int n = 0; listed("STUB_PROCESSES", n, text); n++) {
        part(text, ',', 0, field, TEXT);
        if (!text[0] || atoi(field) != it->place) continue;
        if (found < room && into) {
            memset(&into[found], 0, sizeof *into);
            part(text, ',', 1, field, TEXT);
            into[found].pid = atoi(field);
            part(text, ',', 2, field, TEXT);
            into[found].used = field[0] == '-' ? ~0ULL : strtoull(field, 0, 10);
        }
        found++;
    }
    *count = found;
    return found > room ? TOO_SMALL : SUCCESS;
}
