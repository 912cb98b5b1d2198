// Depthwise convolution: x [batch, channels, ih, iw], w [channels * multiplier, kh, kw], y [batch, channels * multiplier, oh, ow].
// Neighbouring threads make neighbouring elements of a row; the taps of a plane are the same for a warp and come from its cache.

extern "C" __global__ void __launch_bounds__(THREADS) depthwise(const float* __restrict__ x, const float* __restrict__ w, const float* __restrict__ bias, float* __restrict__ y, int n, int channels, int multiplier, int biased, Window win) {
    FOR_EACH(i, n) {
        int ox = i % win.ow, oy = i / win.ow % win.oh, plane = i / (win.ow * win.oh);
        int m = plane % (channels * multiplier), image = plane / (channels * multiplier);
        const float* from = x + ((size_t)image * channels + m / multiplier) * win.ih * win.iw;
        const float* taps = w + (size_t)m * win.kh * win.kw;
        float sum = 0.0f;
        for (int ky = 0; ky < win.kh; ky++) {
            int iy = oy * win.sh + ky * win.dh - win.ph;
            if (iy < 0 || iy >= win.ih) continue;
            for (int kx = 0; kx < win.kw; kx++) {
                int ix = ox * win.sw + kx * win.dw - win.pw;
                if (ix >= 0 && ix < win.iw) sum += taps[ky * win.kw + kx] * from[iy * win.iw + ix];
            }
        }
        y[i] = biased ? sum + bias[m] : sum;
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) depthwise_backward_data(const float* __restrict__ w, const float* __restrict__ gy, float* __restrict__ gx, int n, int channels, int multiplier, Window win) {
    FOR_EACH(i, n) {
        int ix = i % win.iw, iy = i / win.iw % win.ih, plane = i / (win.iw * win.ih);
        int c = plane % channels, image = plane / channels;
        float sum = 0.0f;
        for (int ky = 0; ky < win.kh; ky++) {
            int ry = iy + win.ph - ky * win.dh;
            if (ry < 0 || ry % win.sh != 0 || ry / win.sh >= win.oh) continue;
            for (int kx = 0; kx < win.kw; kx++) {
                int rx = ix + win.pw - kx * win.dw;
                if (rx < 0 || rx % win.sw != 0 || rx / win.sw >= win.ow) continue;
                for (int m = c * multiplier; m < (c + 1) * multiplier; m++) {
                    size_t from = (((size_t)image * channels * multiplier + m) * win.oh + ry / win.sh) * win.ow + rx / win.sw;
                    sum += w[(m * win.kh + ky) * win.kw + kx] * gy[from];
                }
            }
        }
        gx[i] = sum;
    }
}

// A block makes one tap's gradient: blockIdx.x is the tap, blockIdx.y the output channel.
extern "C" __global__ void __launch_bounds__(THREADS) depthwise_backward_weight(const float* __restrict__ x, const float* __restrict__ gy, float* __restrict__ gw, int batch, int channels, int multiplier, Window win) {
    __shared__ float parts[THREADS / WARP];
    int ky = blockIdx.x / win.kw, kx = blockIdx.x % win.kw, plane = win.oh * win.ow;
    for (int m = blockIdx.y; m < channels * multiplier; m += gridDim.y) {
        float sum = 0.0f;
        for (int i = threadIdx.x; i < batch * plane; i += THREADS) {
            int image = i / plane, o = i % plane;
            int iy = o / win.ow * win.sh + ky * win.dh - win.ph, ix = o % win.ow * win.sw + kx * win.dw - win.pw;
            if (iy < 0 || iy >= win.ih || ix < 0 || ix >= win.iw) continue;
            size_t from = (((size_t)image * channels + m / multiplier) * win.ih + iy) * win.iw + ix;
            sum += x[from] * gy[((size_t)image * channels * multiplier + m) * plane + o];
        }
        sum = block_sum(sum, parts);
        if (threadIdx.x == 0) gw[(size_t)m * win.kh * win.kw + blockIdx.x] = sum;
    }
}
