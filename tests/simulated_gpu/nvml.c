/*
 * GPUs for whoever asks NVIDIA's driver how busy they are. The file SIMULATED_GPUS tells of each, at every call anew:
 * its UUID, utilisation in percent, bytes in use, and `ok`, `lost` or `mig`; or, of a driver of another version than
 * the library, `mismatch`.
 */
#include <stdint.h>
#include <string.h>

#include "calls.h"

/* nvmlReturn_t */
enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, LOST = 15, MISMATCH = 18 };

typedef struct { char uuid[80], state[16]; unsigned percent; unsigned long long bytes; } gpu_t;

/* The GPU of a number, or their count for -1; OK, or why there is none. */
static int look(long number, gpu_t *found, unsigned *count)
{
    FILE *file = fopen(getenv("SIMULATED_GPUS"), "r");
    gpu_t gpu = {0};
    int result = NOT_FOUND;
    *count = 0;
    while (file && fscanf(file, "%79s", gpu.uuid) == 1) {
        if (!strcmp(gpu.uuid, "mismatch")) {
            result = MISMATCH;
            break;
        }
        if (fscanf(file, "%u %llu %15s", &gpu.percent, &gpu.bytes, gpu.state) != 3)
            break;
        if ((*count)++ == number) {
            *found = gpu;
            result = OK;
        }
    }
    if (file)
        fclose(file);
    return number < 0 && result != MISMATCH ? OK : result;
}

static int of(void *handle, gpu_t *found)
{
    unsigned count;
    int result = look((intptr_t)handle - 1, found, &count);
    return result == OK && !strcmp(found->state, "lost") ? LOST : result;
}

int nvmlInitWithFlags(unsigned flags)
{
    gpu_t gpu;
    unsigned count;
    return look(-1, &gpu, &count);
}
int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int result) { return "simulated"; }
int nvmlDeviceGetCount_v2(unsigned *count)
{
    gpu_t gpu;
    return look(-1, &gpu, count);
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle)
{
    gpu_t gpu;
    unsigned count;
    *handle = (void *)((intptr_t)index + 1);
    return look(index, &gpu, &count) == OK ? OK : INVALID;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle)
{
    gpu_t gpu;
    unsigned count;
    for (long number = 0; look(number, &gpu, &count) == OK; number++)
        if (!strcmp(gpu.uuid, uuid)) {
            *handle = (void *)(number + 1);
            return OK;
        }
    return NOT_FOUND;
}
int nvmlDeviceGetUUID(void *handle, char *uuid, unsigned size)
{
    gpu_t gpu;
    int result = of(handle, &gpu);
    if (result == OK)
        snprintf(uuid, size, "%s", gpu.uuid);
    return result;
}
int nvmlDeviceGetName(void *handle, char *name, unsigned size)
{
    snprintf(name, size, "NVIDIA Simulated-1");
    return OK;
}
int nvmlDeviceGetUtilizationRates(void *handle, unsigned rates[2])
{
    gpu_t gpu;
    int result = of(handle, &gpu);
    if (result == OK && !strcmp(gpu.state, "mig"))  /* a part of a GPU has none of its own */
        return NOT_SUPPORTED;
    rates[0] = rates[1] = gpu.percent;
    return result;
}
int nvmlDeviceGetMemoryInfo(void *handle, unsigned long long memory[3])
{
    gpu_t gpu;
    int result = of(handle, &gpu);
    memory[0] = 16ull << 30, memory[1] = memory[0] - gpu.bytes, memory[2] = gpu.bytes;
    return result;
}
