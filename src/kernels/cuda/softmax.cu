// Softmax (or its logarithm) along the middle axis of [outer, n, inner]. Rows (inner 1) take a block each, columns a thread each, so
// that neighbours read neighbours either way.

extern "C" __global__ void __launch_bounds__(THREADS) softmax_rows(const float* __restrict__ x, float* __restrict__ y, int rows, int n, int logarithm) {
    __shared__ float parts[THREADS / WARP];
    for (int r = blockIdx.x; r < rows; r += gridDim.x) {
        const float* from = x + (size_t)r * n;
        float top = -infinity(), sum = 0.0f;
        for (int i = threadIdx.x; i < n; i += THREADS) top = larger(top, from[i]);
        top = block_max(top, parts);
        for (int i = threadIdx.x; i < n; i += THREADS) sum += expf(from[i] - top);
        sum = block_sum(sum, parts);
        for (int i = threadIdx.x; i < n; i += THREADS) {
            y[(size_t)r * n + i] = logarithm ? from[i] - (top + logf(sum)) : expf(from[i] - top) / sum;
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) softmax_columns(const float* __restrict__ x, float* __restrict__ y, int outer, int n, int inner, int logarithm) {
    FOR_EACH(i, outer * inner) {
        size_t first = (size_t)(i / inner) * n * inner + i % inner;
        float top = -infinity(), sum = 0.0f;
        for (int k = 0; k < n; k++) top = larger(top, x[first + (size_t)k * inner]);
        for (int k = 0; k < n; k++) sum += expf(x[first + (size_t)k * inner] - top);
        for (int k = 0; k < n; k++) {
            float v = x[first + (size_t)k * inner] - top;
            y[first + (size_t)k * inner] = logarithm ? v - logf(sum) : expf(v) / sum;
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) softmax_rows_backward(const float* __restrict__ y, const float* __restrict__ gy, float* __restrict__ gx, int rows, int n, int logarithm) {
    __shared__ float parts[THREADS / WARP];
    for (int r = blockIdx.x; r < rows; r += gridDim.x) {
        size_t first = (size_t)r * n;
        float sum = 0.0f;
        for (int i = threadIdx.x; i < n; i += THREADS) sum += logarithm ? gy[first + i] : gy[first + i] * y[first + i];
        sum = block_sum(sum, parts);
        for (int i = threadIdx.x; i < n; i += THREADS) {
            float v = y[first + i], g = gy[first + i];
            gx[first + i] = logarithm ? g - expf(v) * sum : v * (g - sum);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) softmax_columns_backward(const float* __restrict__ y, const float* __restrict__ gy, float* __restrict__ gx, int outer, int n, int inner, int logarithm) {
    FOR_EACH(i, outer * inner) {
        size_t first = (size_t)(i / inner) * n * inner + i % inner;
        float sum = 0.0f;
        for (int k = 0; k < n; k++) {
            size_t at = first + (size_t)k * inner;
            sum += logarithm ? gy[at] : gy[at] * y[at];
        }
        for (int k = 0; k < n; k++) {
            size_t at = first + (size_t)k * inner;
            gx[at] = logarithm ? gy[at] - expf(y[at]) * sum : y[at] * (gy[at] - sum);
        }
    }
}
