# s1kit with everything but the large engines.
#   docker build -t s1kit .                                                               for a processor
#   docker build -t s1kit --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 . for NVIDIA cards
#   docker run --rm -p 8000:8000 s1kit serve --host 0.0.0.0
#   docker run --rm -v "$PWD:/data" --user "$(id -u):$(id -g)" s1kit run mine.toml
FROM python:3.12-slim
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /opt/s1kit
COPY constraints.txt pyproject.toml README.md LICENSE THIRD_PARTY.md ./
# Torch in a layer of its own: it is large and changes rarely.
RUN pip install -c constraints.txt torch --index-url ${TORCH_INDEX} --extra-index-url https://pypi.org/simple
COPY s1kit s1kit
RUN pip install -c constraints.txt '.[all]' && useradd --uid 10001 --create-home s1kit && mkdir /data && chown s1kit /data
# By number, so that a cluster can see that it is not root.
USER 10001
WORKDIR /data
ENTRYPOINT ["s1kit"]
CMD ["--help"]
