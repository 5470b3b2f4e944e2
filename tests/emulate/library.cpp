/*
 * library.cpp: source text, preprocessed (asm statements have directives inside), translated, compiled to a shared object,
 * opened.
 */
#include "library.hpp"
#include "translate.hpp"

#include <dlfcn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

namespace emulate {

static const char *const headers[] = {"emulate.hpp", "device.hpp", "ptx.hpp", "ptx_hopper.hpp"};

/* Instructions for vectors, where this machine has them: products are what takes the time. */
static std::string machine_flags()
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return " -mavx2 -mfma -mf16c";
#endif
    return "";
}

/* Statics of templates are a library's own, which clang does not ask about. */
#ifdef __clang__
#define UNIQUE ""
#else
#define UNIQUE " -fno-gnu-unique"
#endif

static std::string compile_flags()
{
    return " -std=c++17 -O1 -fPIC -shared -w -Wno-narrowing -fvisibility=hidden -fno-threadsafe-statics" UNIQUE
           " -fno-exceptions -fno-strict-aliasing -ffp-contract=off"
           " -fsanitize=alignment,bounds,shift-exponent,integer-divide-by-zero -fsanitize-undefined-trap-on-error" +
           machine_flags();
}

static std::string quoted(const std::string &path) { return "'" + path + "'"; }

static std::string read_file(const std::string &path)
{
    std::ifstream file(path, std::ios::binary);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

static void write_file(const std::string &path, const std::string &text) { std::ofstream(path, std::ios::binary) << text; }

/* FNV-1a, 64 bits: a cache of tests has few entries. */
static std::string key_of(const std::string &text)
{
    unsigned long long hash = 0xcbf29ce484222325ull;
    for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ull;
    char out[17];
    snprintf(out, sizeof out, "%016llx", hash);
    return out;
}

static std::string cache_folder()
{
    const char *folder = getenv("TAMIS_EMULATE_CACHE"), *temporary = getenv("TMPDIR");
    const std::string path = folder && *folder ? folder
                                               : std::string(temporary && *temporary ? temporary : "/tmp") +
                                                     "/tamis-emulated-" + std::to_string(getuid());
    mkdir(path.c_str(), 0700);
    return path;
}

/* sm_90a: 900 */
static std::string arch_number(const std::string &arch)
{
    std::string digits;
    for (const char c : arch)
        if (c >= '0' && c <= '9') digits += c;
    return digits + "0";
}

static bool run(const std::string &command, std::string &message, const std::string &log)
{
    if (system((command + " >" + quoted(log) + " 2>&1").c_str()) == 0) return true;
    message = log + ": " + read_file(log).substr(0, 2000);
    return false;
}

static std::string header_texts()
{
    std::string texts;
    for (const char *header : headers) texts += read_file(std::string(EMULATE_HEADERS) + "/" + header);
    return texts;
}

static std::string compiler() { return quoted(EMULATE_CXX) + compile_flags() + " -I " + quoted(EMULATE_HEADERS) + " "; }

/*
 * What every kernel includes, as g++ has read it once, which is a fifth of a kernel's compilation: a header that g++ finds
 * precompiled beside it. Where it was not, or another compiler does not look for that, it is read as any other.
 */
static std::string device_header()
{
    const std::string path = cache_folder() + "/device-" + key_of(EMULATE_CXX + compile_flags() + header_texts()) + ".hpp";
    const std::string own = path + "." + std::to_string(getpid()) + ".hpp";
    std::string ignored;
    if (access(path.c_str(), R_OK) == 0) return path;
    write_file(own, "#include \"device.hpp\"\n");
    if (run(compiler() + "-x c++-header " + quoted(own) + " -o " + quoted(own + ".gch"), ignored, own + ".log"))
        rename((own + ".gch").c_str(), (path + ".gch").c_str());
    unlink((own + ".log").c_str());
    rename(own.c_str(), path.c_str());
    return path;
}

/* A name of this process alone, until it is whole. */
static bool compile(const std::string &source, const std::string &arch, const std::string &path, std::string &message)
{
    const std::string own = path + "." + std::to_string(getpid()), log = path + ".log";
    write_file(own + ".cu", source);
    if (!run(quoted(EMULATE_CXX) + " -E -w -x c++ -std=c++17 -D__CUDACC__ -D__CUDACC_RTC__ -D__CUDA_ARCH__=" +
                 arch_number(arch) + " " + quoted(own + ".cu") + " -o " + quoted(own + ".ii"),
             message, log))
        return false;
    try {
        write_file(own + ".cpp", "#include \"" + device_header() + "\"\n" + translate(read_file(own + ".ii")));
    } catch (const CannotTranslate &error) {
        message = error.what();
        return false;
    }
    if (!run(compiler() + quoted(own + ".cpp") + " -o " + quoted(own + ".so"), message, log)) return false;
    rename((own + ".cpp").c_str(), (path + ".cpp").c_str()); /* for a debugger */
    unlink((own + ".cu").c_str());
    unlink((own + ".ii").c_str());
    return rename((own + ".so").c_str(), (path + ".so").c_str()) == 0;
}

/* What a kernel calls is in the library that this is part of, which was opened for one caller alone. */
static void show_own_symbols()
{
    Dl_info info;
    if (dladdr(reinterpret_cast<void *>(show_own_symbols), &info)) dlopen(info.dli_fname, RTLD_NOW | RTLD_GLOBAL | RTLD_NOLOAD);
}

void *open_library(const std::string &source, const std::string &arch, std::string &message)
{
    const std::string path = cache_folder() + "/" + key_of(source + arch + EMULATE_CXX + compile_flags() + header_texts());
    if (access((path + ".so").c_str(), R_OK) != 0 && !compile(source, arch, path, message)) return nullptr;
    show_own_symbols();
    void *library = dlopen((path + ".so").c_str(), RTLD_NOW | RTLD_LOCAL);
    if (!library) message = dlerror();
    return library;
}

void close_library(void *library) { dlclose(library); }

} // namespace emulate
