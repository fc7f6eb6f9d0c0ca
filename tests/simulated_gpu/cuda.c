/* One GPU for whoever looks for GPUs through CUDA's driver; nothing can be computed on it. */
#include <string.h>

#include "calls.h"

enum { MAJOR = 75, MINOR = 76 };  /* of compute capability, CUdevice_attribute */

int cuInit(unsigned flags) { return 0; }
int cuDriverGetVersion(int *version) { *version = 12040; return 0; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int ordinal) { called("cuDeviceGet"); *device = ordinal; return 0; }
int cuDeviceGetName(char *name, int size, int device) { strncpy(name, "Simulated GPU", size); return 0; }
int cuDeviceGetAttribute(int *value, int which, int device)
{
    *value = which == MAJOR ? 8 : which == MINOR ? 0 : 100;
    return 0;
}
int cuDeviceTotalMem_v2(size_t *bytes, int device) { *bytes = 16ul << 30; return 0; }
int cuDeviceGetUuid(void *uuid, int device) { memset(uuid, 1, 16); return 0; }
int cuDeviceGetUuid_v2(void *uuid, int device) { memset(uuid, 1, 16); return 0; }
int cuDeviceGetPCIBusId(char *id, int size, int device) { strncpy(id, "0000:01:00.0", size); return 0; }
