# One immutable image: code, the two models it was released with, and nothing that serving does not touch.
#
# `make image` writes the bundles to build/model/{control,treatment} and builds the target `service`. With and without
# BuildKit; where the base cannot be pulled, .ci/base-image makes it.
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS base
# LightGBM's OpenMP runtime.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/cache/ldconfig/* \
        /var/log/*.log /var/log/apt


FROM base AS build
RUN apt-get update && apt-get install --yes --no-install-recommends binutils
COPY requirements/serving.txt /tmp/
RUN python -m venv /venv \
    && /venv/bin/pip install --disable-pip-version-check --no-cache-dir --no-compile \
        --only-binary :all: --require-hashes --requirement /tmp/serving.txt

# Out goes what serving never touches: installers; tests, stubs, headers; Arrow Flight and the second and third copy of
# Arrow's Python library; all of SciPy but sparse matrices and the linear algebra under them, which LightGBM imports to
# recognise input that it never gets here; and the symbols of the large libraries (not of those under *.libs, which
# auditwheel has patched and `strip` would break).
WORKDIR /venv/lib/python3.11/site-packages
RUN rm -rf pip pip-* setuptools setuptools-* pkg_resources _distutils_hack distutils-precedence.pth /venv/bin/pip* \
    && find . -type d \( -name tests -o -name include \) -not -path '*.dist-info/*' -prune -exec rm -rf {} + \
    && find . -type f \( -name '*.py[ix]' -o -name '*.px[di]' -o -name '*.[ach]' -o -name '*.cpp' \) -delete \
    && rm -rf pyarrow/*flight* pyarrow/libarrow_python*.so pyarrow/libarrow_python*.so.*.*.* pyarrow/src \
    && for part in cluster datasets differentiate fft fftpack integrate interpolate io ndimage odr optimize signal \
        spatial special stats; do rm -rf scipy/$part; done \
    && strip --strip-unneeded llvmlite/binding/*.so pyarrow/*.so pyarrow/*.so.* uvloop/*.so httptools/parser/*.so \
    && /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash .

WORKDIR /frontrow
COPY app app
COPY batching batching
COPY features features
COPY monitoring monitoring
COPY registry registry
COPY scoring scoring
COPY frontrow.py .
RUN /venv/bin/python -m compileall -q --invalidation-mode unchecked-hash . \
    && chmod -R a=rX,u+w /frontrow

# A model that does not hold never gets into an image; this is also the proof that enough of the libraries is left, and
# leaves the kernels' machine code for processors like this one. Others compile their own at each start. Beside the code
# stands where functions lay in memory, as a text that nothing reads: the one thing in which two builds would differ.
ARG BUNDLES=build/model
COPY ${BUNDLES} /models
ENV FRONTROW_CONTROL_MODEL=/models/control FRONTROW_TREATMENT_MODEL=/models/treatment NUMBA_CACHE_DIR=/frontrow/kernels
RUN chmod -R a=rX,u+w /models \
    && PYTHONHASHSEED=0 /venv/bin/python -B -c "import asyncio, app.launch; asyncio.run(app.launch.try_out())" \
    && LC_ALL=C find /frontrow/kernels -name '*.nbc' -exec sed -i -E 's/ at 0x[0-9a-f]{12}>/ at 0x000000000000>/g' {} + \
    && chmod -R a=rX,u+w /frontrow/kernels


FROM base AS service
# The base's own installers.
RUN rm -rf /usr/local/lib/python3*/site-packages/* /usr/local/lib/python3*/ensurepip /usr/local/bin/pip* \
        /usr/lib/python3*/ensurepip /usr/share/python-wheels
COPY --from=build /venv /venv
COPY --from=build /frontrow /frontrow
COPY --from=build /models /models

# Any user and a read-only root will do: only numba's cache is written, on processors unlike the one that built this,
# below HOME and where that is possible. One thread for each library, because the service decides itself how it spends
# its cores.
ENV PATH=/venv/bin:$PATH PYTHONPATH=/frontrow PYTHONSAFEPATH=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOME=/tmp NUMBA_CACHE_DIR=/frontrow/kernels OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 \
    FRONTROW_HOST=0.0.0.0 FRONTROW_PORT=8000 \
    FRONTROW_CONTROL_MODEL=/models/control FRONTROW_TREATMENT_MODEL=/models/treatment
USER 65532:65532
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=3s --start-period=60s --retries=3 CMD ["python", "-IS", "-c", \
    "import http.client, os; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['FRONTROW_PORT']), 2); \
c.request('GET', '/healthz'); raise SystemExit(c.getresponse().status != 200)"]
ENTRYPOINT ["python", "-m", "frontrow"]
CMD ["serve"]

# Last, because they differ in every build.
ARG CODE_VERSION=unknown
ARG BUILD_TIME
ARG CONTROL_MODEL
ARG TREATMENT_MODEL
ENV FRONTROW_CODE_VERSION=$CODE_VERSION FRONTROW_BUILD_TIME=$BUILD_TIME
LABEL org.opencontainers.image.title=frontrow \
    org.opencontainers.image.licenses=Apache-2.0 \
    org.opencontainers.image.revision=$CODE_VERSION \
    org.opencontainers.image.version=$CODE_VERSION \
    org.opencontainers.image.created=$BUILD_TIME \
    frontrow.model.control=$CONTROL_MODEL \
    frontrow.model.treatment=$TREATMENT_MODEL

# A second target, `registry` (FROM service, with mlflow-skinny in its environment and no models of its own), goes here.
