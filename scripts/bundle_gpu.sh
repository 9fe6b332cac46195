#!/usr/bin/env bash
# Packs braid, the GPU tests and the golden files into one folder that runs on another machine with a GPU.
# Usage: scripts/bundle_gpu.sh BUILD_FOLDER OUTPUT_FOLDER
# The folder brings every library but the C library's own and CUDA's (driver, cuBLASLt, cuDNN), which are looked for on
# the other machine: OUTPUT_FOLDER/run PROGRAM ARGUMENTS...
set -euo pipefail
[ $# -eq 2 ] || { printf 'usage: %s BUILD_FOLDER OUTPUT_FOLDER\n' "$0" >&2 && exit 2; }
build=$1 out=$2
root=$(cd "$(dirname "$0")/.." && pwd)

rm -rf "$out"
mkdir -p "$out/bin" "$out/lib"
for program in braid gpu_test ops_test; do
  [ -x "$build/bin/$program" ] || { printf 'bundle: error: %s is not built\n' "$build/bin/$program" >&2 && exit 1; }
  strip -o "$out/bin/$program" "$build/bin/$program"
  ldd "$build/bin/$program" | awk '$2 == "=>" && $3 ~ /^\// {print $3}'
done | sort -u | grep -Ev '/(libc|libm|libdl|libpthread|librt|ld-linux[^/]*|libcuda|libcudart|libcublas|libcublasLt|libcudnn[^/]*|libnvrtc[^/]*)\.so' |
  while read -r library; do cp -L "$library" "$out/lib/"; done
cp -r "$root/tests/golden" "$out/golden"
mkdir -p "$out/bench" "$out/data"
cp -r "$root/bench/peers" "$out/bench/peers"
cp "$root/data/quickstart.jsonl.zst" "$out/data/"
cp -r "$root/configs" "$out/configs"

cat >"$out/run" <<'RUN'
#!/usr/bin/env bash
# run PROGRAM ARGUMENTS...: a program of this folder, with this folder's libraries and the machine's CUDA.
here=$(cd "$(dirname "$0")" && pwd)
cuda=
for folder in /usr/local/cuda/lib64 /usr/local/cuda/lib /usr/local/cuda/targets/x86_64-linux/lib \
  $(python3 -c 'import glob, site; print(*[f for s in site.getsitepackages() for f in glob.glob(s + "/nvidia/*/lib")])' 2>/dev/null); do
  [ -d "$folder" ] && cuda=$cuda:$folder
done
export LD_LIBRARY_PATH=$here/lib$cuda${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export BRAID_TEST_GOLDEN=$here/golden
program=$1
shift
exec "$here/bin/$program" "$@"
RUN
chmod +x "$out/run"
du -sh "$out"
