// Elementwise functions; see `curve`.

extern "C" __global__ void __launch_bounds__(THREADS) activation(const float* __restrict__ x, float* __restrict__ y, int n, int kind, float a, float b) {
    FOR_EACH(i, n) y[i] = curve(kind, a, b, x[i]);
}

extern "C" __global__ void __launch_bounds__(THREADS) activation_backward(const float* __restrict__ x, const float* __restrict__ y, const float* __restrict__ gy, float* __restrict__ gx, int n, int kind, float a, float b) {
    FOR_EACH(i, n) gx[i] = gy[i] * slope(kind, a, b, x[i], y[i]);
}
