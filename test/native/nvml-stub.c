// A stand-in for NVIDIA's management library: the GPUs of the file that RAYLITE_STUB_GPUS names, a line each:
// uuid name memory used busy celsius ecc xid. A negative figure is one that the driver does not tell; each new xid is an event.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GPUS_MAX 8

typedef struct {
  char uuid[80], name[80];
  unsigned long long memory, used;
  int busy, celsius, ecc;
  unsigned long long xid;
} Gpu;

static Gpu gpus[GPUS_MAX];
static unsigned long long told[GPUS_MAX];

static int look(void) {
  const char* path = getenv("RAYLITE_STUB_GPUS");
  FILE* file = path ? fopen(path, "r") : NULL;
  if (!file) return -1;
  int count = 0;
  while (count < GPUS_MAX) {
    Gpu* g = &gpus[count];
    if (fscanf(file, "%79s %79s %llu %llu %d %d %d %llu", g->uuid, g->name, &g->memory, &g->used, &g->busy, &g->celsius, &g->ecc, &g->xid) != 8) break;
    count++;
  }
  fclose(file);
  return count;
}

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { Gpu* device; unsigned long long type, data; unsigned gpu_instance, compute_instance; } EventData;

int nvmlInit_v2(void) { return look() < 0 ? 9 : 0; }
int nvmlShutdown(void) { return 0; }
const char* nvmlErrorString(int code) { return code == 9 ? "Driver Not Loaded" : "Not Supported"; }
int nvmlDeviceGetCount_v2(unsigned* count) { return *count = (unsigned)look(), 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, Gpu** device) { return *device = &gpus[index], 0; }
int nvmlDeviceGetName(Gpu* device, char* text, unsigned bytes) { return look(), snprintf(text, bytes, "%s", device->name), 0; }
int nvmlDeviceGetUUID(Gpu* device, char* text, unsigned bytes) { return look(), snprintf(text, bytes, "%s", device->uuid), 0; }
int nvmlDeviceGetMemoryInfo(Gpu* device, Memory* memory) {
  look();
  *memory = (Memory){device->memory, device->memory - device->used, device->used};
  return 0;
}
static int known(int value, unsigned* to) { return value < 0 ? 3 : (*to = (unsigned)value, 0); }
int nvmlDeviceGetUtilizationRates(Gpu* device, Utilization* to) { return known(device->busy, &to->gpu); }
int nvmlDeviceGetTemperature(Gpu* device, int sensor, unsigned* to) { return sensor != 0 ? 2 : known(device->celsius, to); }
int nvmlDeviceGetTotalEccErrors(Gpu* device, int kind, int since, unsigned long long* to) {
  if (kind != 1 || since != 0) return 2;
  *to = (unsigned long long)device->ecc;
  return device->ecc < 0 ? 3 : 0;
}
int nvmlEventSetCreate(void** set) { return *set = gpus, 0; }
int nvmlEventSetFree(void* set) { return set == gpus ? 0 : 2; }
int nvmlDeviceRegisterEvents(Gpu* device, unsigned long long types, void* set) { return device && types == 8 && set == gpus ? 0 : 2; }
int nvmlEventSetWait_v2(void* set, EventData* event, unsigned milliseconds) {
  (void)set, (void)milliseconds;
  int count = look();
  for (int i = 0; i < count; i++) {
    if (gpus[i].xid == told[i]) continue;
    told[i] = gpus[i].xid;
    *event = (EventData){&gpus[i], 8, gpus[i].xid, 0, 0};
    return 0;
  }
  return 10;
}
