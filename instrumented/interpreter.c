/* An interpreter that is linked with a sanitizer. What it runs needs no preloading, so that programs which it starts
 * (a compiler, the C++ server, Python peers) run without the sanitizer, and programs in this interpreter with it. */
#include <Python.h>

/* Leaks are not looked for: CPython does not free all memory at exit. Some tests preload a library of theirs, which comes
 * before the sanitizer then. */
const char *__asan_default_options(void) {
    return "detect_leaks=0:abort_on_error=1:allocator_may_return_null=1:detect_stack_use_after_return=1"
           ":verify_asan_link_order=0";
}

const char *__ubsan_default_options(void) { return "print_stacktrace=1:halt_on_error=1:abort_on_error=1"; }

const char *__tsan_default_options(void) {
    return "halt_on_error=1:abort_on_error=1:allocator_may_return_null=1:second_deadlock_stack=1:die_after_fork=0";
}

int main(int argc, char **argv) {
    PyPreConfig before;
    PyConfig config;
    PyPreConfig_InitPythonConfig(&before);
    before.allocator = PYMEM_ALLOCATOR_MALLOC; /* the sanitizer knows only the blocks of malloc */
    PyStatus status = Py_PreInitializeFromBytesArgs(&before, argc, argv);
    if (!PyStatus_Exception(status)) {
        PyConfig_InitPythonConfig(&config);
        status = PyConfig_SetBytesArgv(&config, argc, argv);
        if (!PyStatus_Exception(status)) status = Py_InitializeFromConfig(&config);
        PyConfig_Clear(&config);
    }
    if (PyStatus_Exception(status)) Py_ExitStatusException(status);
    return Py_RunMain();
}
