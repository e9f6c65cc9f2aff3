# Build options and the flags that every target of the project shares.
option(TROUPE_TESTS "Build the tests" ON)
option(TROUPE_BENCH "Build the benchmarks" ON)
option(TROUPE_FUZZ "Build the libFuzzer targets (clang only)" OFF)
include(CheckLanguage)
check_language(CUDA)
if(CMAKE_CUDA_COMPILER)
  set(TROUPE_CUDA_DEFAULT ON)
else()
  set(TROUPE_CUDA_DEFAULT OFF)
endif()
option(TROUPE_CUDA "Build the CUDA backend; needs nvcc, but no GPU" ${TROUPE_CUDA_DEFAULT})
set(TROUPE_CUDA_ARCHITECTURES "80" CACHE STRING
    "GPU architectures to compile for; later ones run the code of earlier ones")
set(TROUPE_SANITIZE "" CACHE STRING "Comma-separated -fsanitize= list, for example address,undefined")

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

find_program(TROUPE_CCACHE ccache)
if(TROUPE_CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER "${TROUPE_CCACHE}")
  set(CMAKE_C_COMPILER_LAUNCHER "${TROUPE_CCACHE}")
endif()

add_library(troupe_flags INTERFACE)
add_library(troupe::flags ALIAS troupe_flags)
# The shipped binary runs on any x86-64-v2 machine; faster paths are chosen at run time.
target_compile_options(troupe_flags INTERFACE -march=x86-64-v2 -Wall -Wextra -Wpedantic -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # GCC 12 reports overlapping copies in plain std::string concatenation (its bug 105651).
  target_compile_options(troupe_flags INTERFACE -Wno-restrict)
endif()
target_compile_definitions(troupe_flags INTERFACE CAF_ENABLE_TYPE_ID_CHECKS TROUPE_VERSION="${PROJECT_VERSION}")
target_include_directories(troupe_flags INTERFACE "${CMAKE_SOURCE_DIR}" "${CMAKE_BINARY_DIR}")
if(TROUPE_SANITIZE)
  # Checked code takes long to compile: with less optimization, and lines as all debug information,
  # half as long.
  target_compile_options(troupe_flags INTERFACE -fsanitize=${TROUPE_SANITIZE} -fno-omit-frame-pointer
                         -O1 -g1)
  # Instrumentation makes GCC's flow analysis report what cannot happen.
  target_compile_options(troupe_flags INTERFACE -Wno-error)
  target_link_options(troupe_flags INTERFACE -fsanitize=${TROUPE_SANITIZE})
  if(TROUPE_SANITIZE MATCHES "undefined")
    # CAF's own headers bind null references.
    target_compile_options(troupe_flags INTERFACE -fno-sanitize=null -fno-sanitize-recover=undefined)
  endif()
endif()
