// Rounding to integers; x [outer, channels, inner] with a scale per channel (one channel: per tensor). Zero points are whole floats.

// round(v / scale) + zero, halves to even
__device__ inline float steps(float v, float scale, float zero) { return rintf(v / scale) + zero; }

// What is no number becomes the lowest.
__device__ inline float clamped(float q, float low, float high) { return q > low ? (q < high ? q : high) : low; }

// 8 bits, of either sign: the low byte of the integer.
extern "C" __global__ void __launch_bounds__(THREADS) quantize(const float* __restrict__ x, const float* __restrict__ scale, const float* __restrict__ zero, unsigned char* __restrict__ q, int n, int channels, int inner, float low, float high) {
    FOR_EACH(i, n) {
        int c = i / inner % channels;
        q[i] = (unsigned char)(int)clamped(steps(x[i], scale[c], zero[c]), low, high);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) dequantize(const unsigned char* __restrict__ q, const float* __restrict__ scale, const float* __restrict__ zero, float* __restrict__ y, int n, int channels, int inner, int is_signed) {
    FOR_EACH(i, n) {
        int c = i / inner % channels;
        float v = is_signed ? (float)(signed char)q[i] : (float)q[i];
        y[i] = (v - zero[c]) * scale[c];
    }
}

// (clamp(round(x / scale) + zero) - zero) * scale
extern "C" __global__ void __launch_bounds__(THREADS) fake_quantize(const float* __restrict__ x, const float* __restrict__ scale, const float* __restrict__ zero, float* __restrict__ y, int n, int channels, int inner, float low, float high) {
    FOR_EACH(i, n) {
        int c = i / inner % channels;
        y[i] = (clamped(steps(x[i], scale[c], zero[c]), low, high) - zero[c]) * scale[c];
    }
}

// Straight through where nothing is clipped (Bengio et al. 2013).
extern "C" __global__ void __launch_bounds__(THREADS) fake_quantize_backward(const float* __restrict__ x, const float* __restrict__ scale, const float* __restrict__ zero, const float* __restrict__ gy, float* __restrict__ gx, int n, int channels, int inner, float low, float high) {
    FOR_EACH(i, n) {
        int c = i / inner % channels;
        float q = steps(x[i], scale[c], zero[c]);
        gx[i] = q >= low && q <= high ? gy[i] : 0.0f;
    }
}

// The gradient of the scale (LSQ, Esser et al. 2020): inside round(x / scale) - x / scale, outside the limit. Sums of a part of a channel,
// as `channel_parts` takes them; the second of each pair is 0, so that `join_sums` joins them.
extern "C" __global__ void __launch_bounds__(THREADS) scale_parts(const float* __restrict__ x, const float* __restrict__ scale, const float* __restrict__ zero, const float* __restrict__ gy, float* __restrict__ parts, int outer, int channels, int inner, int part, float low, float high) {
    __shared__ float shared[THREADS / WARP];
    int first = blockIdx.x * part;
    int end = outer * inner - first < part ? outer * inner : first + part;
    for (int c = blockIdx.y; c < channels; c += gridDim.y) {
        float sum = 0.0f;
        for (int e = first + threadIdx.x; e < end; e += THREADS) {
            size_t at = at_channel(e, c, channels, inner);
            float q = steps(x[at], scale[c], zero[c]), kept = clamped(q, low, high);
            sum += gy[at] * (kept - zero[c] - (q == kept ? x[at] / scale[c] : 0.0f));
        }
        sum = block_sum(sum, shared);
        if (threadIdx.x == 0) {
            parts[((size_t)c * gridDim.x + blockIdx.x) * 2] = sum;
            parts[((size_t)c * gridDim.x + blockIdx.x) * 2 + 1] = 0.0f;
        }
    }
}
