#!/bin/sh
# Builds the llama.cpp that the race runs against: the one inside PyPI's llama-cpp-python, a fixed version.
#
#     tests/race/setup.sh [JOBS]
#
# Needs Python 3 with pip, a C and C++ compiler, CMake and Ninja (`apt-get install cmake ninja-build`, or
# `pip install cmake ninja`). About 10 CPU minutes. Everything goes to $DSV4_LLAMA, by default tests/.cache/llama, which
# git ignores; remove that folder to start again. PYTHON names another interpreter. $DSV4_LLAMA_CMAKE is given to CMake as
# well; for a race of the AVX2 levels on a processor that has more, in a folder of its own:
#
#     DSV4_LLAMA_CMAKE="-DGGML_NATIVE=OFF -DGGML_AVX2=ON -DGGML_FMA=ON -DGGML_F16C=ON -DGGML_BMI2=ON"
#
# On a processor with AMX, whose kernels end this model's run with an assertion, the same and
# "-DGGML_AVX512=ON -DGGML_AVX512_VBMI=ON -DGGML_AVX512_VNNI=ON -DGGML_AVX512_BF16=ON".
set -eu

VERSION=0.3.36
here=$(cd "$(dirname "$0")" && pwd)
home=${DSV4_LLAMA:-$here/../.cache/llama}
python=${PYTHON:-python3}
jobs=${1:-$(nproc 2>/dev/null || echo 1)}

for tool in cmake ninja cc c++; do
    command -v "$tool" >/dev/null || { echo "setup.sh: $tool is not installed" >&2; exit 1; }
done
mkdir -p "$home"
home=$(cd "$home" && pwd)
cd "$home"

archive=llama_cpp_python-$VERSION.tar.gz
[ -f "$archive" ] || "$python" -m pip download --no-deps --no-binary llama-cpp-python "llama-cpp-python==$VERSION"
source=llama_cpp_python-$VERSION/vendor/llama.cpp
[ -f "$source/CMakeLists.txt" ] || tar xzf "$archive"

# The compiler's best for this very processor; no network, no server, no GPU.
cmake -S "$source" -B build -G Ninja \
    -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=ON \
    -DGGML_NATIVE=ON -DGGML_CUDA=OFF -DGGML_CCACHE=OFF \
    -DLLAMA_BUILD_COMMON=ON -DLLAMA_BUILD_TOOLS=ON \
    -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF -DLLAMA_BUILD_APP=OFF \
    -DLLAMA_BUILD_UI=OFF -DLLAMA_USE_PREBUILT_UI=OFF -DLLAMA_OPENSSL=OFF \
    -DLLAMA_BUILD_NUMBER=0 -DLLAMA_BUILD_COMMIT="llama-cpp-python-$VERSION" ${DSV4_LLAMA_CMAKE-} >configure.log
ninja -C build -j "$jobs" llama llama-bench llama-quantize

cc -O2 -Wall -Wextra -I"$source/include" -I"$source/ggml/include" "$here/llama_logits.c" -o build/bin/llama_logits \
    -Lbuild/bin -lllama -lggml -lggml-base "-Wl,-rpath,$home/build/bin"
echo "$home/build/bin: llama-bench, llama-quantize, llama_logits"
