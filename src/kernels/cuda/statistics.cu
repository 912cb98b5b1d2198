// Statistics of each channel of x [outer, channels, inner]: mean, population variance, minimum and maximum, in two steps. A block takes
// PART elements of a channel (blockIdx.x: which; blockIdx.y: the channel) and a second kernel joins the parts in their order.
//
// Deviations are taken from the mean of the part and joined as in Chan, Golub and LeVeque 1979: large means cost no digits.

#define PART 4096

extern "C" __global__ void __launch_bounds__(THREADS) channel_parts(const float* __restrict__ x, float* __restrict__ parts, int outer, int channels, int inner) {
    __shared__ float shared[THREADS / WARP];
    int first = blockIdx.x * PART;
    int count = outer * inner - first < PART ? outer * inner - first : PART;
    for (int c = blockIdx.y; c < channels; c += gridDim.y) {
        float sum = 0.0f, low = infinity(), high = -infinity();
        for (int e = first + threadIdx.x; e < first + count; e += THREADS) {
            float v = x[at_channel(e, c, channels, inner)];
            sum += v;
            low = smaller(low, v);
            high = larger(high, v);
        }
        float mean = block_sum(sum, shared) / count;
        float squares = 0.0f;
        for (int e = first + threadIdx.x; e < first + count; e += THREADS) {
            float d = x[at_channel(e, c, channels, inner)] - mean;
            squares += d * d;
        }
        squares = block_sum(squares, shared);
        low = -block_max(-low, shared);
        high = block_max(high, shared);
        if (threadIdx.x == 0) {
            float* part = parts + ((size_t)c * gridDim.x + blockIdx.x) * 4;
            part[0] = mean;
            part[1] = squares;
            part[2] = low;
            part[3] = high;
        }
    }
}

// A thread joins the parts of a channel. Results are [4, channels]: mean, variance, minimum, maximum.
extern "C" __global__ void __launch_bounds__(THREADS) channel_join(const float* __restrict__ parts, float* __restrict__ result, int elements, int channels, int each) {
    FOR_EACH(c, channels) {
        float mean = 0.0f, squares = 0.0f, low = infinity(), high = -infinity();
        for (int p = 0; p < each; p++) {
            const float* part = parts + ((size_t)c * each + p) * 4;
            float seen = (float)p * PART, count = (float)(elements - p * PART < PART ? elements - p * PART : PART);
            float apart = part[0] - mean;
            mean += apart * (count / (seen + count));
            squares += part[1] + apart * apart * (seen * (count / (seen + count)));
            low = smaller(low, part[2]);
            high = larger(high, part[3]);
        }
        result[c] = mean;
        result[channels + c] = squares / elements;
        result[2 * channels + c] = low;
        result[3 * channels + c] = high;
    }
}
