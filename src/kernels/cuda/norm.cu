// Batch normalization in training, with the activation after it. x [outer, channels, inner]; statistics [4, channels] are those of
// `channel_join`: mean and variance come first.

struct Affine {
    float mean, inv, factor, shift;
};

// z = x * factor + shift, with factor = scale / sqrt(var + epsilon)
__device__ inline Affine affine(const float* __restrict__ statistics, const float* __restrict__ scale, const float* __restrict__ bias, int c, int channels, float epsilon) {
    Affine a;
    a.mean = statistics[c];
    a.inv = 1.0f / sqrtf(statistics[channels + c] + epsilon);
    a.factor = scale[c] * a.inv;
    a.shift = bias[c] - a.mean * a.factor;
    return a;
}

extern "C" __global__ void __launch_bounds__(THREADS) batch_norm(const float* __restrict__ x, const float* __restrict__ scale, const float* __restrict__ bias, const float* __restrict__ statistics, float* __restrict__ y, int n, int channels, int inner, float epsilon, int kind, float low, float high) {
    FOR_EACH(i, n) {
        Affine a = affine(statistics, scale, bias, i / inner % channels, channels, epsilon);
        y[i] = curve(kind, low, high, x[i] * a.factor + a.shift);
    }
}

// Sums of gz, the gradient before the activation, and of gz * (x - mean), over a part of a channel; see `channel_parts`.
extern "C" __global__ void __launch_bounds__(THREADS) batch_norm_parts(const float* __restrict__ x, const float* __restrict__ scale, const float* __restrict__ bias, const float* __restrict__ statistics, const float* __restrict__ gy, float* __restrict__ parts, int outer, int channels, int inner, int part, float epsilon, int kind, float low, float high) {
    __shared__ float shared[THREADS / WARP];
    int first = blockIdx.x * part;
    int end = outer * inner - first < part ? outer * inner : first + part;
    for (int c = blockIdx.y; c < channels; c += gridDim.y) {
        Affine a = affine(statistics, scale, bias, c, channels, epsilon);
        float sum = 0.0f, product = 0.0f;
        for (int e = first + threadIdx.x; e < end; e += THREADS) {
            size_t at = at_channel(e, c, channels, inner);
            float v = x[at], z = v * a.factor + a.shift;
            float g = gy[at] * slope(kind, low, high, z, curve(kind, low, high, z));
            sum += g;
            product += g * (v - a.mean);
        }
        sum = block_sum(sum, shared);
        product = block_sum(product, shared);
        if (threadIdx.x == 0) {
            parts[((size_t)c * gridDim.x + blockIdx.x) * 2] = product;
            parts[((size_t)c * gridDim.x + blockIdx.x) * 2 + 1] = sum;
        }
    }
}

// Sums the parts of each channel: [channels, each, 2] -> [2, channels].
extern "C" __global__ void __launch_bounds__(THREADS) join_sums(const float* __restrict__ parts, float* __restrict__ sums, int channels, int each) {
    FOR_EACH(i, 2 * channels) {
        int which = i / channels, c = i % channels;
        float sum = 0.0f;
        for (int p = 0; p < each; p++) sum += parts[((size_t)c * each + p) * 2 + which];
        sums[i] = sum;
    }
}

// gx = factor * (gz - mean(gz) - xhat * mean(gz * xhat)). The gradients of scale and bias, [2, channels], are made of the sums.
extern "C" __global__ void __launch_bounds__(THREADS) batch_norm_backward(const float* __restrict__ x, const float* __restrict__ scale, const float* __restrict__ bias, const float* __restrict__ statistics, const float* __restrict__ gy, const float* __restrict__ sums, float* __restrict__ gx, float* __restrict__ gradients, int n, int channels, int inner, float epsilon, int kind, float low, float high) {
    float count = (float)(n / channels);
    FOR_EACH(i, n) {
        int c = i / inner % channels;
        Affine a = affine(statistics, scale, bias, c, channels, epsilon);
        float z = x[i] * a.factor + a.shift;
        float gz = gy[i] * slope(kind, low, high, z, curve(kind, low, high, z));
        float along = (x[i] - a.mean) * a.inv * a.inv * sums[c];
        gx[i] = a.factor * (gz - (sums[channels + c] + along) / count);
    }
    FOR_EACH(c, channels) {
        gradients[c] = sums[c] / sqrtf(statistics[channels + c] + epsilon);
        gradients[channels + c] = sums[channels + c];
    }
}
