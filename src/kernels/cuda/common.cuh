// What all kernels share. It stands before each source; there are no includes, so that NVRTC needs no headers, and the same
// text compiles as C++ behind tests/shim.h.
//
// Counts of elements fit an int (the host checks it), so that an unsigned index plus a grid's stride does not wrap.

// A window over height and width, as `Window2` of the host.
struct Window {
    int ih, iw, kh, kw, sh, sw, dh, dw, ph, pw, oh, ow;
};

#define FOR_EACH(i, n) \
    for (unsigned i = blockIdx.x * blockDim.x + threadIdx.x; i < (unsigned)(n); i += gridDim.x * blockDim.x)

// Threads of each block that reduces.
#define THREADS 256
#define WARP 32

__device__ inline float infinity() { return __int_as_float(0x7f800000); }

__device__ inline float larger(float a, float b) { return b > a || b != b ? b : a; }
__device__ inline float smaller(float a, float b) { return b < a || b != b ? b : a; }

// The sum over the block, for all of its threads. `parts` has room for one float per warp and may be used again at once.
__device__ inline float block_sum(float v, float* parts) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) v += __shfl_xor_sync(0xffffffffu, v, offset);
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = v;
    __syncthreads();
    float sum = 0.0f;
    for (int i = 0; i < (int)(blockDim.x / WARP); i++) sum += parts[i];
    __syncthreads();
    return sum;
}

__device__ inline float block_max(float v, float* parts) {
    for (int offset = WARP / 2; offset > 0; offset /= 2) v = larger(v, __shfl_xor_sync(0xffffffffu, v, offset));
    if (threadIdx.x % WARP == 0) parts[threadIdx.x / WARP] = v;
    __syncthreads();
    float top = parts[0];
    for (int i = 1; i < (int)(blockDim.x / WARP); i++) top = larger(top, parts[i]);
    __syncthreads();
    return top;
}

// Where element `e` of channel `c` lies in a tensor [outer, channels, inner].
__device__ inline size_t at_channel(int e, int c, int channels, int inner) {
    return ((size_t)(e / inner) * channels + c) * inner + e % inner;
}

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Elementwise functions; the numbers are those of `code` on the host.
enum Curve {
    IDENTITY, RELU, LEAKY_RELU, THRESHOLDED_RELU, ELU, SELU, CELU, SIGMOID, SWISH, HARD_SIGMOID, HARD_SWISH, SOFTPLUS,
    SOFTSIGN, TANH, CLIP, ERF, GELU, GELU_TANH, MISH
};

// The inner function of GELU's approximation.
__device__ inline float gelu_inner(float x) { return 0.7978846f * (x + 0.044715f * x * x * x); }

__device__ inline float softplus(float x) { return (x > 0.0f ? x : 0.0f) + log1pf(expf(-fabsf(x))); }

__device__ inline float unit(float x) { return x < 0.0f ? 0.0f : x > 1.0f ? 1.0f : x; }

__device__ inline float curve(int kind, float a, float b, float x) {
    switch (kind) {
        case RELU: return x < 0.0f ? 0.0f : x;
        case LEAKY_RELU: return x < 0.0f ? a * x : x;
        case THRESHOLDED_RELU: return x > a ? x : 0.0f;
        case ELU: return x < 0.0f ? a * expm1f(x) : x;
        case SELU: return b * (x <= 0.0f ? a * expm1f(x) : x);
        case CELU: return x < 0.0f ? a * expm1f(x / a) : x;
        case SIGMOID: return sigmoid(x);
        case SWISH: return x * sigmoid(a * x);
        case HARD_SIGMOID: return unit(a * x + b);
        case HARD_SWISH: return x * unit(x / 6.0f + 0.5f);
        case SOFTPLUS: return softplus(x);
        case SOFTSIGN: return x / (1.0f + fabsf(x));
        case TANH: return tanhf(x);
        // The maximum wins where it is below the minimum.
        case CLIP: { float v = x < a ? a : x; return v > b ? b : v; }
        case ERF: return erff(x);
        case GELU: return 0.5f * x * (1.0f + erff(x * 0.70710678f));
        case GELU_TANH: return 0.5f * x * (1.0f + tanhf(gelu_inner(x)));
        case MISH: return x * tanhf(softplus(x));
        default: return x;
    }
}

// The derivative at `x`, where `y` is the value; at kinks that of PyTorch.
__device__ inline float slope(int kind, float a, float b, float x, float y) {
    switch (kind) {
        case RELU: return x > 0.0f ? 1.0f : 0.0f;
        case LEAKY_RELU: return x > 0.0f ? 1.0f : a;
        case THRESHOLDED_RELU: return x > a ? 1.0f : 0.0f;
        case ELU: return x > 0.0f ? 1.0f : y + a;
        case SELU: return x > 0.0f ? b : y + a * b;
        case CELU: return x > 0.0f ? 1.0f : y / a + 1.0f;
        case SIGMOID: return y * (1.0f - y);
        case SWISH: { float s = sigmoid(a * x); return s + a * y * (1.0f - s); }
        case HARD_SIGMOID: return y > 0.0f && y < 1.0f ? a : 0.0f;
        case HARD_SWISH: return x < -3.0f ? 0.0f : x < 3.0f ? x / 3.0f + 0.5f : 1.0f;
        case SOFTPLUS: return sigmoid(x);
        case SOFTSIGN: { float d = 1.0f + fabsf(x); return 1.0f / (d * d); }
        case TANH: return 1.0f - y * y;
        case CLIP: return x >= a && x <= b ? 1.0f : 0.0f;
        case ERF: return 1.1283792f * expf(-x * x);
        case GELU: return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * 0.3989423f * expf(-0.5f * x * x);
        case GELU_TANH: {
            float t = tanhf(gelu_inner(x));
            return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.7978846f * (1.0f + 3.0f * 0.044715f * x * x);
        }
        case MISH: { float t = tanhf(softplus(x)); return t + x * (1.0f - t * t) * sigmoid(x); }
        default: return 1.0f;
    }
}
