/* SPDX-License-Identifier: BSD-2-Clause */
/**
 * Version of the release and of the binary interface, and the export macro.
 */
#ifndef CARSO_VERSION_H
#define CARSO_VERSION_H

/** Release, as in CHANGELOG.md. */
#define CARSO_VERSION_MAJOR 0
#define CARSO_VERSION_MINOR 1
#define CARSO_VERSION_PATCH 0

/** Binary interface (docs/abi.md). The major number is the soname. */
#define CARSO_ABI_MAJOR 0
#define CARSO_ABI_MINOR 1

#if defined(_WIN32)
#  define CARSO_API
#elif defined(__GNUC__)
#  define CARSO_API __attribute__((visibility("default")))
#else
#  define CARSO_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/**
 * The version of the library that is linked, "major.minor.patch"; a static string.
 * Thread-safety: any thread. Since 0.1.
 */
CARSO_API const char *carso_version(void);

/**
 * The binary interface of the library that is linked, as major * 1000 + minor; compare with
 * CARSO_ABI_MAJOR and CARSO_ABI_MINOR to detect a library older than the headers.
 * Thread-safety: any thread. Since 0.1.
 */
CARSO_API int carso_abi_version(void);

#ifdef __cplusplus
}
#endif
#endif
