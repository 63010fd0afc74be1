/* Stands for the NVIDIA driver's library of CUDA where there is none, so that extensions which are
 * linked against it can be loaded, and a process can be seen to have begun to use CUDA. It computes
 * nothing: there is no device.
 */

#define API __attribute__((visibility("default"))) int

enum { NOT_INITIALIZED = 3, NO_DEVICE = 100 };

static int begun;

API cuInit(unsigned flags) { begun = 1; return NO_DEVICE; }
API cuCtxGetCurrent(void **context) { *context = 0; return begun ? 0 : NOT_INITIALIZED; }
API cuDriverGetVersion(int *version) { *version = 13000; return 0; }
API cuGetProcAddress_v2() { return NO_DEVICE; }
API cuPointerGetAttribute() { return NO_DEVICE; }
API cuTensorMapEncodeTiled() { return NO_DEVICE; }
