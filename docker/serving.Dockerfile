# TensorFlow Serving with a model of `egt-tf learn` or `egt-tf export`. In a checkout with saved_models/NAME:
#   docker build -f docker/serving.Dockerfile --build-arg MODEL=NAME -t egt-tf-serving .
#   docker run --rm -p 127.0.0.1:8501:8501 egt-tf-serving
# Not built nor run by the tests.
FROM tensorflow/serving:2.14.1
ARG MODEL
COPY saved_models/${MODEL} /models/${MODEL}
ENV MODEL_NAME=${MODEL}
