/*
 * What a GPU does, for whoever records it through CUPTI: a program says what that is, by simulated_launch and
 * simulated_work. As CUPTI may, it waits for ever when it is called in the child of the process that uses it.
 *
 * Layouts and numbers are those of CUDA 12 (cupti_activity.h, cupti_callbacks.h, cupti_driver_cbid.h).
 */
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include "calls.h"

enum { COPY = 1, SET = 2, CONCURRENT_KERNEL = 10, OVERHEAD = 17, COPY_TO_PEER = 22 };  /* CUpti_ActivityKind */
enum { OK = 0, MAX_LIMIT_REACHED = 12 };                                             /* CUptiResult */
enum { DRIVER_API = 1, LAUNCH_KERNEL = 307, ENTER = 0, EXIT = 1, STREAM = 5, FLUSHES = 1 << 16 };

typedef void (*callback_t)(void *, int, uint32_t, const void *);
typedef void (*request_t)(uint8_t **, size_t *, size_t *);
typedef void (*complete_t)(void *, uint32_t, uint8_t *, size_t, size_t);

static callback_t callback;
static void *subscriber;
static request_t request;
static complete_t complete;
static int owner;
static uint32_t correlation;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static uint8_t records[1 << 15];  /* as many bytes as TensorFlow has room for in one buffer */
static size_t filled;

static void used(const char *what)
{
    called(what);
    while (owner && owner != getpid())
        pause();
}

static uint64_t now(void)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    return at.tv_sec * 1000000000ul + at.tv_nsec;
}

static size_t size_of(uint32_t kind)
{
    return kind == CONCURRENT_KERNEL ? 208 : kind == COPY_TO_PEER ? 96 : kind == OVERHEAD ? 40 : 88;
}

static void put(uint8_t *record, size_t at, uint64_t value, size_t size) { memcpy(record + at, &value, size); }

/* CUpti_ActivityKernel9, …Memcpy5, …MemcpyPtoP4, …Memset4 and …Overhead. */
static void add(uint32_t kind, const char *name, int how, uint64_t start, uint64_t end, uint32_t stream, uint32_t id)
{
    uint8_t record[208] = {0};
    put(record, 0, kind, 4);
    if (kind == CONCURRENT_KERNEL) {
        put(record, 16, start, 8), put(record, 24, end, 8), put(record, 32, end, 8);
        put(record, 44, 1, 4), put(record, 48, stream, 4), put(record, 92, id, 4);
        put(record, 104, (uint64_t)name, 8);
    } else if (kind == OVERHEAD) {
        put(record, 4, FLUSHES, 4), put(record, 8, STREAM, 4), put(record, 16, 1, 4), put(record, 20, stream, 4);
        put(record, 24, start, 8), put(record, 32, end, 8);
    } else {
        if (kind != SET)
            put(record, 4, how, 1);
        put(record, 8, 4096, 8), put(record, 16, start, 8), put(record, 24, end, 8);
        put(record, 36, 1, 4), put(record, 40, stream, 4);
        if (kind == COPY_TO_PEER)
            put(record, 52, 1, 4);
        put(record, kind == COPY_TO_PEER ? 60 : 44, id, 4);
    }
    pthread_mutex_lock(&lock);
    if (filled + size_of(kind) <= sizeof records) {
        memcpy(records + filled, record, size_of(kind));
        filled += size_of(kind);
    }
    pthread_mutex_unlock(&lock);
}

static uint64_t wait_for(long nanoseconds)
{
    uint64_t start = now();
    struct timespec time = {0, nanoseconds};
    nanosleep(&time, NULL);
    return start;
}

/* A kernel that the calling thread launches and waits for. */
void simulated_launch(const char *name, uint32_t stream, long nanoseconds)
{
    uint32_t id = __sync_add_and_fetch(&correlation, 1);
    int result = 0;
    uint64_t data = 0;
    struct { void *function; unsigned grid[3], block[3], shared; void *stream, **arguments, **extra; } launch = {0};
    struct {
        int site; const char *function; void *params, *result; const char *symbol;
        void *context; uint32_t context_id; uint64_t *data; uint32_t correlation;
    } call = {ENTER, "cuLaunchKernel", &launch, &result, name, &lock, 1, &data, id};
    if (callback)
        callback(subscriber, DRIVER_API, LAUNCH_KERNEL, &call);
    uint64_t start = wait_for(nanoseconds);
    call.site = EXIT;
    if (callback)
        callback(subscriber, DRIVER_API, LAUNCH_KERNEL, &call);
    add(CONCURRENT_KERNEL, name, 0, start, start + nanoseconds, stream, id);
}

/* Another activity on a stream, by its kind; how: of a copy, CUpti_ActivityMemcpyKind. */
void simulated_work(uint32_t kind, int how, uint32_t stream, long nanoseconds)
{
    uint64_t start = wait_for(nanoseconds);
    add(kind, NULL, how, start, start + nanoseconds, stream, __sync_add_and_fetch(&correlation, 1));
}

int cuptiSubscribe(void **handle, callback_t function, void *data)
{
    owner = getpid();
    callback = function, subscriber = data;
    *handle = &lock;
    return OK;
}
int cuptiUnsubscribe(void *handle) { used("cuptiUnsubscribe"); callback = NULL; return OK; }
int cuptiEnableCallback(uint32_t on, void *handle, int domain, uint32_t id) { used("cuptiEnableCallback"); return OK; }
int cuptiEnableDomain(uint32_t on, void *handle, int domain) { used("cuptiEnableDomain"); return OK; }
int cuptiActivityRegisterCallbacks(request_t asks, complete_t gives) { request = asks, complete = gives; return OK; }
int cuptiActivityEnable(int kind) { return OK; }
int cuptiActivityDisable(int kind) { used("cuptiActivityDisable"); return OK; }
int cuptiActivityFlushPeriod(uint32_t milliseconds) { used("cuptiActivityFlushPeriod"); return OK; }
int cuptiActivitySetAttribute(int which, size_t *size, void *value) { return OK; }
int cuptiActivityUsePerThreadBuffer(void) { return OK; }
int cuptiActivityFlushAll(uint32_t flag)
{
    used("cuptiActivityFlushAll");
    uint8_t *buffer = NULL;
    size_t size = 0, most = 0, valid = 0;
    request(&buffer, &size, &most);
    pthread_mutex_lock(&lock);
    if (buffer && filled <= size) {
        memcpy(buffer, records, filled);
        valid = filled, filled = 0;
    }
    pthread_mutex_unlock(&lock);
    complete(NULL, 0, buffer, size, valid);
    return OK;
}
int cuptiActivityGetNextRecord(uint8_t *buffer, size_t valid, uint8_t **record)
{
    used("cuptiActivityGetNextRecord");
    uint32_t kind;
    uint8_t *next = buffer;
    if (*record) {
        memcpy(&kind, *record, sizeof kind);
        next = *record + size_of(kind);
    }
    if (next >= buffer + valid)
        return MAX_LIMIT_REACHED;
    *record = next;
    return OK;
}
int cuptiActivityGetNumDroppedRecords(void *context, uint32_t stream, size_t *dropped)
{
    used("cuptiActivityGetNumDroppedRecords");
    *dropped = 0;
    return OK;
}
int cuptiGetTimestamp(uint64_t *time) { used("cuptiGetTimestamp"); *time = now(); return OK; }
int cuptiFinalize(void) { used("cuptiFinalize"); return OK; }
int cuptiGetResultString(int result, const char **text) { *text = "simulated"; return OK; }
int cuptiGetDeviceId(void *context, uint32_t *device) { *device = 0; return OK; }
int cuptiGetContextId(void *context, uint32_t *id) { *id = 1; return OK; }
int cuptiGetStreamIdEx(void *context, void *stream, uint8_t per_thread, uint32_t *id) { *id = 7; return OK; }
int cuptiSetThreadIdType(int type) { return OK; }
