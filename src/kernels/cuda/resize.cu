// One axis of [outer, from, inner] -> [outer, to, inner] by a table: output o is the sum of weight[t] * x[index[t]] over the t of o.
// Nearest, linear and cubic interpolation are all such tables.

extern "C" __global__ void __launch_bounds__(THREADS) resize_axis(const float* __restrict__ x, const int* __restrict__ index, const float* __restrict__ weight, float* __restrict__ y, int n, int from, int to, int inner, int taps) {
    FOR_EACH(i, n) {
        int in = i % inner, o = i / inner % to;
        const float* line = x + (size_t)(i / inner / to) * from * inner + in;
        float sum = 0.0f;
        for (int t = o * taps; t < (o + 1) * taps; t++) sum += weight[t] * line[(size_t)index[t] * inner];
        y[i] = sum;
    }
}

// The transposed map, by rows: input j is read by the outputs reader[t] with weight[t], t from start[j] to start[j + 1].
extern "C" __global__ void __launch_bounds__(THREADS) resize_axis_backward(const float* __restrict__ gy, const int* __restrict__ start, const int* __restrict__ reader, const float* __restrict__ weight, float* __restrict__ gx, int n, int from, int to, int inner) {
    FOR_EACH(i, n) {
        int in = i % inner, j = i / inner % from;
        const float* line = gy + (size_t)(i / inner / from) * to * inner + in;
        float sum = 0.0f;
        for (int t = start[j]; t < start[j + 1]; t++) sum += weight[t] * line[(size_t)reader[t] * inner];
        gx[i] = sum;
    }
}
