// Non-maximum suppression of boxes [n, 4] (left, top, right, bottom), best first. Boxes of different classes do not compete.

// mask[i, word]: which of 32 later boxes overlap box i by more than the limit. A block compares 32 boxes with 32 others.
__device__ inline float overlap(const float* a, const float* b) {
    float w = fminf(a[2], b[2]) - fmaxf(a[0], b[0]), h = fminf(a[3], b[3]) - fmaxf(a[1], b[1]);
    float inter = fmaxf(w, 0.0f) * fmaxf(h, 0.0f);
    float all = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter;
    return all > 0.0f ? inter / all : 0.0f;
}

extern "C" __global__ void __launch_bounds__(WARP) nms_mask(const float* __restrict__ boxes, const int* __restrict__ classes, unsigned* __restrict__ mask, int n, float limit) {
    __shared__ float others[WARP][4];
    __shared__ int kinds[WARP];
    int words = gridDim.x, row = blockIdx.y * WARP + threadIdx.x, first = blockIdx.x * WARP;
    int column = first + threadIdx.x;
    if (column < n) {
        for (int k = 0; k < 4; k++) others[threadIdx.x][k] = boxes[column * 4 + k];
        kinds[threadIdx.x] = classes[column];
    }
    __syncthreads();
    if (row >= n) return;
    unsigned bits = 0;
    for (int j = 0; j < WARP && first + j < n; j++) {
        if (first + j > row && kinds[j] == classes[row] && overlap(boxes + row * 4, others[j]) > limit) bits |= 1u << j;
    }
    mask[(size_t)row * words + blockIdx.x] = bits;
}

// One block walks through the boxes in their order; `keep` [n] gets 1 where no kept box suppresses. At most MOST boxes.
#define MOST 32768
extern "C" __global__ void __launch_bounds__(THREADS) nms_scan(const unsigned* __restrict__ mask, unsigned char* __restrict__ keep, int n, int words) {
    __shared__ unsigned removed[MOST / WARP];
    for (int w = threadIdx.x; w < words; w += THREADS) removed[w] = 0;
    __syncthreads();
    for (int i = 0; i < n; i++) {
        bool kept = !(removed[i / WARP] >> (i % WARP) & 1);
        // All have read before any writes.
        __syncthreads();
        if (kept) {
            for (int w = i / WARP + threadIdx.x; w < words; w += THREADS) removed[w] |= mask[(size_t)i * words + w];
        }
        if (threadIdx.x == 0) keep[i] = kept;
        __syncthreads();
    }
}
