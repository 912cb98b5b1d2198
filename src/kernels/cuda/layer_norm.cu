// Layer normalization of each row of [rows, n], a block per row. `moments` [2, rows] gets the mean and 1 / sqrt(var + epsilon).

extern "C" __global__ void __launch_bounds__(THREADS) layer_norm(const float* __restrict__ x, const float* __restrict__ scale, const float* __restrict__ bias, float* __restrict__ y, float* __restrict__ moments, int rows, int n, float epsilon) {
    __shared__ float parts[THREADS / WARP];
    for (int r = blockIdx.x; r < rows; r += gridDim.x) {
        const float* from = x + (size_t)r * n;
        float sum = 0.0f, squares = 0.0f;
        for (int i = threadIdx.x; i < n; i += THREADS) sum += from[i];
        float mean = block_sum(sum, parts) / n;
        for (int i = threadIdx.x; i < n; i += THREADS) squares += (from[i] - mean) * (from[i] - mean);
        float inv = 1.0f / sqrtf(block_sum(squares, parts) / n + epsilon);
        for (int i = threadIdx.x; i < n; i += THREADS) y[(size_t)r * n + i] = (from[i] - mean) * inv * scale[i] + bias[i];
        if (threadIdx.x == 0) {
            moments[r] = mean;
            moments[rows + r] = inv;
        }
    }
}

// gx = inv * (g - mean(g) - xhat * mean(g * xhat)) with g = gy * scale
extern "C" __global__ void __launch_bounds__(THREADS) layer_norm_backward(const float* __restrict__ x, const float* __restrict__ scale, const float* __restrict__ moments, const float* __restrict__ gy, float* __restrict__ gx, int rows, int n) {
    __shared__ float parts[THREADS / WARP];
    for (int r = blockIdx.x; r < rows; r += gridDim.x) {
        size_t first = (size_t)r * n;
        float mean = moments[r], inv = moments[rows + r], sum = 0.0f, product = 0.0f;
        for (int i = threadIdx.x; i < n; i += THREADS) {
            float g = gy[first + i] * scale[i];
            sum += g;
            product += g * (x[first + i] - mean) * inv;
        }
        sum = block_sum(sum, parts) / n;
        product = block_sum(product, parts) / n;
        for (int i = threadIdx.x; i < n; i += THREADS) {
            gx[first + i] = inv * (gy[first + i] * scale[i] - sum - (x[first + i] - mean) * inv * product);
        }
    }
}

// Sums of gy * xhat and of gy down the columns, over `each` rows per blockIdx.y: [n, gridDim.y, 2], which `join_sums` joins.
extern "C" __global__ void __launch_bounds__(THREADS) layer_norm_parts(const float* __restrict__ x, const float* __restrict__ moments, const float* __restrict__ gy, float* __restrict__ parts, int rows, int n, int each) {
    int first = blockIdx.y * each, end = rows - first < each ? rows : first + each;
    FOR_EACH(i, n) {
        float product = 0.0f, sum = 0.0f;
        for (int r = first; r < end; r++) {
            float g = gy[(size_t)r * n + i];
            product += g * (x[(size_t)r * n + i] - moments[r]) * moments[rows + r];
            sum += g;
        }
        parts[((size_t)i * gridDim.y + blockIdx.y) * 2] = product;
        parts[((size_t)i * gridDim.y + blockIdx.y) * 2 + 1] = sum;
    }
}
