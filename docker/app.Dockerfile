# The page of `egt-tf app`. In a checkout:
#   docker build -f docker/app.Dockerfile -t egt-tf-app .
#   docker run --rm --init --network host egt-tf-app
# then http://127.0.0.1:7860. Not built nor run by the tests.
FROM python:3.11-slim
COPY . /src
RUN pip install --no-cache-dir '/src[app,photos]' && rm -rf /src && useradd --create-home visitor
USER visitor
WORKDIR /home/visitor
CMD ["egt-tf", "app", "--no-browser"]
