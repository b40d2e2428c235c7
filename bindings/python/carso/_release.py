# SPDX-License-Identifier: BSD-2-Clause
"""What this package was written for; the same numbers as in include/carso/version.h."""

RELEASE = "0.1.0"
ABI_MAJOR = 0
ABI_MINOR = 1
