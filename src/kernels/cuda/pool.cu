// Pools over planes [planes, ih, iw] -> [planes, oh, ow]. A thread makes one element, so that neighbours read and write neighbours,
// and gradients are gathered: nothing is added atomically and results do not depend on the order of threads.

// The first of the largest elements under the window of output (oy, ox); what is no number is larger than all. -1: an empty window.
__device__ inline int largest(const float* __restrict__ plane, Window w, int oy, int ox, float* value) {
    float best = -infinity();
    int at = -1;
    for (int ky = 0; ky < w.kh; ky++) {
        int iy = oy * w.sh + ky * w.dh - w.ph;
        if (iy < 0 || iy >= w.ih) continue;
        for (int kx = 0; kx < w.kw; kx++) {
            int ix = ox * w.sw + kx * w.dw - w.pw;
            if (ix < 0 || ix >= w.iw) continue;
            float v = plane[iy * w.iw + ix];
            if (at < 0 || (best == best && (v > best || v != v))) {
                best = v;
                at = iy * w.iw + ix;
            }
        }
    }
    *value = best;
    return at;
}

extern "C" __global__ void __launch_bounds__(THREADS) max_pool(const float* __restrict__ x, float* __restrict__ y, int planes, Window w) {
    FOR_EACH(i, planes * w.oh * w.ow) {
        int o = i % (w.oh * w.ow);
        largest(x + (size_t)(i / (w.oh * w.ow)) * w.ih * w.iw, w, o / w.ow, o % w.ow, &y[i]);
    }
}

// Where in its plane each output's element stands, for the gradient.
extern "C" __global__ void __launch_bounds__(THREADS) max_pool_index(const float* __restrict__ x, int* __restrict__ at, int planes, Window w) {
    FOR_EACH(i, planes * w.oh * w.ow) {
        int o = i % (w.oh * w.ow);
        float value;
        at[i] = largest(x + (size_t)(i / (w.oh * w.ow)) * w.ih * w.iw, w, o / w.ow, o % w.ow, &value);
    }
}

// The outputs whose window covers an input position, along one axis: those of tap `k` is o = (i + pad - k * dilation) / stride.
__device__ inline int reader(int i, int pad, int k, int dilation, int stride, int outputs) {
    int reach = i + pad - k * dilation;
    return reach >= 0 && reach % stride == 0 && reach / stride < outputs ? reach / stride : -1;
}

extern "C" __global__ void __launch_bounds__(THREADS) max_pool_backward(const int* __restrict__ at, const float* __restrict__ gy, float* __restrict__ gx, int planes, Window w) {
    FOR_EACH(i, planes * w.ih * w.iw) {
        int p = i / (w.ih * w.iw), own = i % (w.ih * w.iw);
        size_t first = (size_t)p * w.oh * w.ow;
        float sum = 0.0f;
        // From the last tap, so that the outputs come in their order.
        for (int ky = w.kh - 1; ky >= 0; ky--) {
            int oy = reader(own / w.iw, w.ph, ky, w.dh, w.sh, w.oh);
            if (oy < 0) continue;
            for (int kx = w.kw - 1; kx >= 0; kx--) {
                int ox = reader(own % w.iw, w.pw, kx, w.dw, w.sw, w.ow);
                if (ox >= 0 && at[first + oy * w.ow + ox] == own) sum += gy[first + oy * w.ow + ox];
            }
        }
        gx[i] = sum;
    }
}

// `scale` has one over the number of elements that each output counts, [oh, ow].
extern "C" __global__ void __launch_bounds__(THREADS) average_pool(const float* __restrict__ x, const float* __restrict__ scale, float* __restrict__ y, int planes, Window w) {
    FOR_EACH(i, planes * w.oh * w.ow) {
        int o = i % (w.oh * w.ow);
        const float* plane = x + (size_t)(i / (w.oh * w.ow)) * w.ih * w.iw;
        float sum = 0.0f;
        for (int ky = 0; ky < w.kh; ky++) {
            int iy = o / w.ow * w.sh + ky * w.dh - w.ph;
            if (iy < 0 || iy >= w.ih) continue;
            for (int kx = 0; kx < w.kw; kx++) {
                int ix = o % w.ow * w.sw + kx * w.dw - w.pw;
                if (ix >= 0 && ix < w.iw) sum += plane[iy * w.iw + ix];
            }
        }
        y[i] = sum * scale[o];
    }
}

extern "C" __global__ void __launch_bounds__(THREADS) average_pool_backward(const float* __restrict__ gy, const float* __restrict__ scale, float* __restrict__ gx, int planes, Window w) {
    FOR_EACH(i, planes * w.ih * w.iw) {
        int p = i / (w.ih * w.iw), own = i % (w.ih * w.iw);
        size_t first = (size_t)p * w.oh * w.ow;
        float sum = 0.0f;
        for (int ky = w.kh - 1; ky >= 0; ky--) {
            int oy = reader(own / w.iw, w.ph, ky, w.dh, w.sh, w.oh);
            if (oy < 0) continue;
            for (int kx = w.kw - 1; kx >= 0; kx--) {
                int ox = reader(own % w.iw, w.pw, kx, w.dw, w.sw, w.ow);
                if (ox >= 0) sum += gy[first + oy * w.ow + ox] * scale[oy * w.ow + ox];
            }
        }
        gx[i] = sum;
    }
}
