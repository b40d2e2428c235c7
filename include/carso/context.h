/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Contexts: backend, threads, memory, messages. Status codes of every call.
 *
 * Conventions of the whole interface
 *   - A call that can fail returns a carso_status; results go to out-parameters at the end of the
 *     argument list, named out_*. On failure an out handle is set to NULL unless its text says otherwise.
 *   - Option structs start with struct_size and are filled by their carso_*_options_init(&options,
 *     sizeof options); fields are only ever appended. A NULL options pointer means the defaults.
 *   - Handles are created and destroyed in pairs; destroy accepts NULL.
 *   - Text is UTF-8. The library prints nothing, never exits and keeps no global state.
 */
#ifndef CARSO_CONTEXT_H
#define CARSO_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include "carso/version.h"

#ifdef __cplusplus
extern "C" {
#endif

/** Result of a call. Values are pinned and never reused. Since 0.1. */
typedef enum carso_status {
    CARSO_OK = 0,
    /** The caller's progress callback asked to stop; what was done until then is kept. */
    CARSO_CANCELLED = 1,
    /** An argument or option is NULL, out of range or contradicts another. */
    CARSO_ERROR_INVALID_ARGUMENT = 10,
    /** An image has the wrong size, channels, type, or a value that is not in [0, 1]. */
    CARSO_ERROR_INVALID_IMAGE = 11,
    /** A function of the caller's own, given for the call to use, reported a failure. */
    CARSO_ERROR_CALLBACK = 12,
    /** The allocator, a mapping or a backend ran out of memory, or the process of files that it may have open. */
    CARSO_ERROR_OUT_OF_MEMORY = 20,
    /** A file could not be opened, read or written; the message carries the system's reason. */
    CARSO_ERROR_IO = 30,
    /** The named file, folder, backend, tap or class does not exist. */
    CARSO_ERROR_NOT_FOUND = 31,
    /** A file is damaged, or is not of the format that was expected. */
    CARSO_ERROR_BAD_FORMAT = 40,
    /** The request is valid, but this model, build or backend cannot do it. */
    CARSO_ERROR_UNSUPPORTED = 41,
    /** A logit, loss, gradient or weight is not finite. */
    CARSO_ERROR_NON_FINITE = 50,
    /** A backend's own library reported an error. */
    CARSO_ERROR_BACKEND = 60,
    /** A defect in libcarso: please report it. */
    CARSO_ERROR_INTERNAL = 70
} carso_status;

/**
 * One lower-case English sentence part for a status, "unknown status" for other values; a static string.
 * Thread-safety: any thread. Since 0.1.
 */
CARSO_API const char *carso_status_str(carso_status status);

/** Severity of a log line. Since 0.1. */
typedef enum carso_log_level {
    CARSO_LOG_ERROR = 0,
    CARSO_LOG_WARNING = 1,
    CARSO_LOG_INFO = 2,
    CARSO_LOG_DEBUG = 3
} carso_log_level;

/**
 * Receives log lines (no trailing newline). May be called from any thread that is inside a call on
 * this context; must not call back into the context.
 */
typedef void (*carso_log_callback)(carso_log_level level, const char *text, void *user);

/**
 * The caller's allocator. Both functions or none must be set; they may be called from any thread.
 * allocate returns memory aligned to alignment (a power of two, at most 4096), or NULL.
 * Memory that third-party libraries (the backend's, the JSON parser) take for themselves does not
 * come from here.
 */
typedef struct carso_allocator {
    void *(*allocate)(size_t size, size_t alignment, void *user);
    void (*release)(void *memory, void *user);
    void *user;
} carso_allocator;

/**
 * Progress of a long call, given to a carso_progress_callback.
 * done and total count the units named by unit (for example "images", "steps").
 */
typedef struct carso_progress {
    size_t struct_size;
    uint64_t done;
    uint64_t total;
    const char *unit;
} carso_progress;

/** Return 0 to go on, anything else to cancel: the call then returns CARSO_CANCELLED. */
typedef int (*carso_progress_callback)(const carso_progress *progress, void *user);

/**
 * How the CPU backend may compute convolutions; others ignore it. Errors in the table of backends/onednn/README.md.
 * Since 0.1.
 */
typedef enum carso_convolution {
    /** Fast, with errors as small as a direct convolution's over a network: Winograd's filtering where it pays. */
    CARSO_CONVOLUTION_AUTOMATIC = 0,
    /** Errors smaller than a direct convolution's: Winograd's filtering with complex points alone. */
    CARSO_CONVOLUTION_PRECISE = 1,
    /** Direct convolutions alone. */
    CARSO_CONVOLUTION_DIRECT = 2
} carso_convolution;

/** Options of carso_context_create. Since 0.1. */
typedef struct carso_context_options {
    size_t struct_size;
    /** Name of a backend (carso_backend_name), or NULL: the fastest one that works here. */
    const char *backend;
    /** Threads for computing, 0: as many as the machine has cores for this process. At most 1024. */
    int32_t threads;
    /** Most verbose level that reaches the log callback; CARSO_LOG_WARNING unless changed. */
    int32_t log_level;
    carso_log_callback log;
    void *log_user;
    /** All zero: the C library's allocator. */
    carso_allocator allocator;
    /**
     * Bytes that the working buffers of one running call may take, and those kept for later calls together; 0: 1 GiB.
     * Batches are split to keep it; if a single image needs more, it is processed alone. Weights come on top:
     * carso_context_memory says how much of what there is.
     */
    uint64_t memory_limit;
    /** A carso_convolution. */
    int32_t convolution;
    int32_t reserved;
} carso_context_options;

typedef struct carso_context carso_context;

/** Fills options with the defaults. size: sizeof *options. Since 0.1. */
CARSO_API void carso_context_options_init(carso_context_options *options, size_t size);

/**
 * Creates a context. options may be NULL. On failure *out_context is NULL, and the reason goes to the log callback
 * of the options, if any.
 * Returns INVALID_ARGUMENT, NOT_FOUND (no such backend), OUT_OF_MEMORY, BACKEND.
 * Thread-safety: any thread. Since 0.1.
 */
CARSO_API carso_status carso_context_create(const carso_context_options *options, carso_context **out_context);

/**
 * Gives up the caller's reference. Models, data sets and trainers keep the context alive until they are destroyed.
 * Thread-safety: any thread, once. Since 0.1.
 */
CARSO_API void carso_context_destroy(carso_context *context);

/**
 * Copies the message of the most recent failure on this context into buffer, always terminated; "" if there was none.
 * Returns the length that the whole message has. With several threads on one context, it is the latest of any of them.
 * Thread-safety: any thread. Since 0.1.
 */
CARSO_API size_t carso_context_message(const carso_context *context, char *buffer, size_t size);

/** Name of the context's backend; valid as long as the context. Thread-safety: any thread. Since 0.1. */
CARSO_API const char *carso_context_backend(const carso_context *context);

/** Number of threads that the context computes with. Thread-safety: any thread. Since 0.1. */
CARSO_API int32_t carso_context_threads(const carso_context *context);

/**
 * What a context's models and calls hold of memory, in bytes. Not counted: what third-party libraries take for
 * themselves, images, results, and the small change. Since 0.1.
 */
typedef struct carso_memory {
    size_t struct_size;
    /** Weights in mapped model files. Those that are packed need not be in memory. */
    uint64_t mapped_weights;
    /** Weights otherwise: made, trained, with BatchNorm folded in, and their gradients. */
    uint64_t own_weights;
    /** Copies of weights in the order that a backend's kernels want. */
    uint64_t packed_weights;
    /** Copies in a larger form, for speed. */
    uint64_t transformed_weights;
    /** Working buffers, in use or kept for the next call, and the most there have been. */
    uint64_t buffers;
    uint64_t most_buffers;
} carso_memory;

/**
 * Fills *out_memory, whose struct_size the caller has set. Other threads' calls may change it meanwhile.
 * Returns INVALID_ARGUMENT.
 * Thread-safety: any thread. Since 0.1.
 */
CARSO_API carso_status carso_context_memory(const carso_context *context, carso_memory *out_memory);

/** Number of backends in this build. Thread-safety: any thread. Since 0.1. */
CARSO_API size_t carso_backend_count(void);

/** Name of backend i in order of preference, NULL past the end; a static string. Thread-safety: any. Since 0.1. */
CARSO_API const char *carso_backend_name(size_t index);

#ifdef __cplusplus
}
#endif
#endif
