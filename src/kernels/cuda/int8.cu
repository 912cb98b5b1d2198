// Products of 8-bit integers with 32-bit sums, four per instruction (dp4a). A block makes a TILE x TILE piece of the result from
// pieces that are DEPTH words deep; a thread makes 4 x 4 of it. Rows of words are one longer than they are deep, so that the
// threads of a warp read different banks.

#define TILE 64
#define DEPTH 8
#define SIDE 16

// acc + a0 b0 + a1 b1 + a2 b2 + a3 b3, of signed bytes
__device__ inline int dot4(int a, int b, int acc) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 610
    return __dp4a(a, b, acc);
#else
    for (int i = 0; i < 32; i += 8) acc += (int)(signed char)(a >> i) * (int)(signed char)(b >> i);
    return acc;
#endif
}

__device__ inline void multiply(const int (*left)[DEPTH + 1], const int (*right)[DEPTH + 1], int (*acc)[4]) {
    int column = threadIdx.x % SIDE, row = threadIdx.x / SIDE;
#pragma unroll
    for (int k = 0; k < DEPTH; k++) {
        int a[4], b[4];
#pragma unroll
        for (int i = 0; i < 4; i++) a[i] = left[row + i * SIDE][k];
#pragma unroll
        for (int j = 0; j < 4; j++) b[j] = right[column + j * SIDE][k];
#pragma unroll
        for (int i = 0; i < 4; i++)
#pragma unroll
            for (int j = 0; j < 4; j++) acc[i][j] = dot4(a[i], b[j], acc[i][j]);
    }
}

// c [m, n] = a [m, 4 * words] x b [n, 4 * words] transposed.
extern "C" __global__ void __launch_bounds__(THREADS) int8_matmul(const int* __restrict__ a, const int* __restrict__ b, int* __restrict__ c, int m, int n, int words) {
    __shared__ int left[TILE][DEPTH + 1], right[TILE][DEPTH + 1];
    int top = blockIdx.x * TILE, first = blockIdx.y * TILE;
    int acc[4][4] = {};
    for (int k = 0; k < words; k += DEPTH) {
        for (int i = threadIdx.x; i < TILE * DEPTH; i += THREADS) {
            int r = i / DEPTH, d = k + i % DEPTH;
            left[r][i % DEPTH] = top + r < m && d < words ? a[(size_t)(top + r) * words + d] : 0;
            right[r][i % DEPTH] = first + r < n && d < words ? b[(size_t)(first + r) * words + d] : 0;
        }
        __syncthreads();
        multiply(left, right, acc);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int r = top + (int)threadIdx.x / SIDE + i * SIDE, s = first + (int)threadIdx.x % SIDE + j * SIDE;
            if (r < m && s < n) c[(size_t)r * n + s] = acc[i][j];
        }
}

// Convolution of channels-last codes: x [batch, ih, iw, 4 * words], w [filters, kh, kw, 4 * words] signed, y [batch, oh, ow, filters].
// y = clamp(round((sums + bias[f]) * factor[f]) + zero). `flip` 0x80808080 reads unsigned codes as signed ones less 128; `padding` is four
// codes of zero after that, and the host takes the zero point out of `bias`.
extern "C" __global__ void __launch_bounds__(THREADS) int8_conv(const int* __restrict__ x, const int* __restrict__ w, const int* __restrict__ bias, const float* __restrict__ factor, unsigned char* __restrict__ y, int batch, int words, int filters, int flip, int padding, float zero, float low, float high, Window win) {
    __shared__ int left[TILE][DEPTH + 1], right[TILE][DEPTH + 1];
    int top = blockIdx.x * TILE, first = blockIdx.y * TILE;
    int rows = batch * win.oh * win.ow, depth = win.kh * win.kw * words;
    int acc[4][4] = {};
    for (int k = 0; k < depth; k += DEPTH) {
        for (int i = threadIdx.x; i < TILE * DEPTH; i += THREADS) {
            int r = i / DEPTH, d = k + i % DEPTH, value = 0;
            if (top + r < rows && d < depth) {
                int o = top + r, tap = d / words;
                int iy = o / win.ow % win.oh * win.sh + tap / win.kw * win.dh - win.ph;
                int ix = o % win.ow * win.sw + tap % win.kw * win.dw - win.pw;
                bool inside = iy >= 0 && iy < win.ih && ix >= 0 && ix < win.iw;
                size_t at = (((size_t)(o / win.ow / win.oh) * win.ih + iy) * win.iw + ix) * words + d % words;
                value = inside ? x[at] ^ flip : padding;
            }
            left[r][i % DEPTH] = value;
            right[r][i % DEPTH] = first + r < filters && d < depth ? w[(size_t)(first + r) * depth + d] : 0;
        }
        __syncthreads();
        multiply(left, right, acc);
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) {
            int o = top + (int)threadIdx.x / SIDE + i * SIDE, f = first + (int)threadIdx.x % SIDE + j * SIDE;
            if (o >= rows || f >= filters) continue;
            float q = rintf((float)(acc[i][j] + bias[f]) * factor[f]) + zero;
            y[(size_t)o * filters + f] = (unsigned char)(int)(q > low ? (q < high ? q : high) : low);
        }
}
