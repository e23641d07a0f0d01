# cellseg_mm with all that `make setup` installs. The default is for the CPU; CUDA_ARCHS adds the GPU's ops:
#
#   docker build -t cellseg_mm .
#   docker build -t cellseg_mm --build-arg CUDA_ARCHS="8.0 8.6 9.0" .      # compute capabilities of your GPUs
#   docker run --rm -v "$PWD/images:/images" cellseg_mm python tools/predict.py /images --out /images/cells
#   docker run --rm --gpus all cellseg_mm python tools/train.py ...
#   docker run --rm -p 7860:7860 cellseg_mm python tools/app.py --host 0.0.0.0 --port 7860
#
# Debian 13 has Python 3.13. No CUDA image is needed below: `make setup` takes nvcc from packages.
FROM debian:trixie-slim

RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates g++ git make python3 python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*

# groups of requirements besides requirements.txt
ARG EXTRAS="app onnx slides"
# torch for the CPU, a tenth of the default's size; with CUDA_ARCHS the default is taken
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG CUDA_ARCHS=
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility

WORKDIR /cellseg_mm
COPY . .
RUN if [ -n "$CUDA_ARCHS" ]; then export FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST="$CUDA_ARCHS"; TORCH_INDEX=; fi \
    && make setup EXTRAS="$EXTRAS" TORCH_INDEX="$TORCH_INDEX" \
    && rm -rf "$HOME/.cache"

ENV PATH=/cellseg_mm/.venv/bin:$PATH
CMD ["python", "tools/predict.py", "--help"]
