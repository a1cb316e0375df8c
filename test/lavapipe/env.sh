# Source this (bash) to run WebGPU in Node (the `webgpu` package) on lavapipe, Mesa's CPU adapter:
#   . test/lavapipe/env.sh && npm run test:lavapipe
# Debian (x86-64) as root: installs Mesa's Vulkan drivers and a compiler where they are missing, and builds the layer once.
# Chromium does not use it (there: SwiftShader).
_here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
_out=${TMPDIR:-/tmp}/lavapipe-as-gpu
if [ ! -e "$_out/layer.json" ]; then
  if [ ! -e /usr/share/vulkan/icd.d/lvp_icd.x86_64.json ] || [ ! -e /usr/include/vulkan/vk_layer.h ]; then
    apt-get update -qq >/dev/null 2>&1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends mesa-vulkan-drivers libvulkan1 libvulkan-dev gcc libc6-dev >/dev/null 2>&1
  fi
  mkdir -p "$_out" &&
    gcc -O2 -shared -fPIC -fvisibility=hidden -o "$_out/liblavapipe_as_gpu.so" "$_here/as_gpu.c" &&
    printf '{"file_format_version":"1.2.0","layer":{"name":"VK_LAYER_FORETOKEN_lavapipe_as_gpu","type":"GLOBAL","library_path":"%s/liblavapipe_as_gpu.so","api_version":"1.3.0","implementation_version":"1","description":"lavapipe presented as a GPU"}}\n' "$_out" > "$_out/layer.json" ||
    echo "lavapipe-env: could not build the layer" >&2
fi
export VK_LAYER_PATH=$_out VK_INSTANCE_LAYERS=VK_LAYER_FORETOKEN_lavapipe_as_gpu
export VK_DRIVER_FILES=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json VK_ICD_FILENAMES=/usr/share/vulkan/icd.d/lvp_icd.x86_64.json
unset _here _out
