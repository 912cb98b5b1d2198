// Reads plans from standard input, runs each with threads and blocks in their order and in the reverse one, and writes all its buffers
// to standard output. Stands behind the kernels; the table of them is made from their names.

template <class T> constexpr char letter() {
    if (std::is_pointer<T>::value) return 'b';
    if (std::is_same<T, float>::value) return 'f';
    if (std::is_same<T, Window>::value) return 'w';
    return 'i';
}

// Arguments as the driver takes them, an address each, from the signature of the kernel.
template <auto kernel> struct Entry;
template <class... A, void (*kernel)(A...)> struct Entry<kernel> {
    template <size_t... I> static void spread(void** args, std::index_sequence<I...>) { kernel(*(A*)args[I]...); }
    static void call(void** args) { spread(args, std::index_sequence_for<A...>()); }
    static std::string letters() { return {letter<A>()...}; }
};

struct Known {
    const char* name;
    void (*call)(void**);
    std::string letters;
};
#define KERNEL(name) {#name, Entry<name>::call, Entry<name>::letters()}

template <class T> static T take() {
    T value;
    if (fread(&value, sizeof value, 1, stdin) != 1) fail("a request that ends early");
    return value;
}

static std::string take_bytes() {
    std::string bytes(take<uint32_t>(), 0);
    if (!bytes.empty() && fread(&bytes[0], bytes.size(), 1, stdin) != 1) fail("a request that ends early");
    return bytes;
}

struct Step {
    const Known* kernel;
    Dim grid;
    unsigned block;
    std::string letters;
    std::vector<std::string> values;
};

// Buffers are allocations of their own size, so that an address outside of one is seen. What is to be made holds `fill` before.
static std::vector<std::string> run(const std::vector<std::string>& given, size_t inputs, const std::vector<Step>& steps, bool backwards, char fill) {
    std::vector<char*> memory;
    for (size_t i = 0; i < given.size(); i++) {
        memory.push_back((char*)malloc(given[i].size()));
        if (i < inputs) memcpy(memory[i], given[i].data(), given[i].size());
        else memset(memory[i], fill, given[i].size());
    }
    for (const Step& step : steps) {
        std::vector<void*> args;
        std::vector<char*> pointers(step.values.size());
        for (size_t i = 0; i < step.values.size(); i++) {
            if (step.letters[i] == 'b') {
                uint32_t which;
                memcpy(&which, step.values[i].data(), 4);
                pointers[i] = memory.at(which);
                args.push_back(&pointers[i]);
            } else {
                args.push_back((void*)step.values[i].data());
            }
        }
        run_grid(step.kernel->call, args.data(), step.grid, step.block, backwards);
    }
    std::vector<std::string> made;
    for (size_t i = 0; i < given.size(); i++) {
        made.emplace_back(memory[i], given[i].size());
        if (i < inputs && made[i] != given[i]) fail("a kernel that writes its input " + std::to_string(i));
        free(memory[i]);
    }
    return made;
}

static void one(size_t inputs, const std::vector<Known>& known) {
    std::vector<std::string> given(take<uint32_t>());
    for (size_t i = 0; i < given.size(); i++) {
        if (i < inputs) given[i] = take_bytes();
        else given[i].resize(take<uint32_t>());
    }
    std::vector<Step> steps(take<uint32_t>());
    for (Step& step : steps) {
        std::string name = take_bytes();
        step.kernel = nullptr;
        for (const Known& k : known) if (name == k.name) step.kernel = &k;
        if (!step.kernel) fail("no kernel " + name);
        step.grid.x = take<uint32_t>();
        step.grid.y = take<uint32_t>();
        step.block = take<uint32_t>();
        step.letters = take_bytes();
        if (step.letters != step.kernel->letters) fail(name + " takes " + step.kernel->letters + ", got " + step.letters);
        for (char c : step.letters) {
            step.values.push_back(take_bytes());
            if (step.values.back().size() != (c == 'w' ? sizeof(Window) : 4)) fail("an argument of another size");
        }
    }
    std::vector<std::string> made = run(given, inputs, steps, false, 0x55);
    std::vector<std::string> again = run(given, inputs, steps, true, 0x2a);
    for (size_t i = 0; i < made.size(); i++) {
        if (made[i] != again[i]) fail("buffer " + std::to_string(i) + " depends on the order of threads, or is not all written");
        fwrite(made[i].data(), 1, made[i].size(), stdout);
    }
    fflush(stdout);
}

static int emulate(const std::vector<Known>& known) {
    uint32_t inputs;
    while (fread(&inputs, sizeof inputs, 1, stdin) == 1) one(inputs, known);
    return 0;
}
