"""A stand-in for tensorflow_model_server, for machines with neither that program nor Docker.

It takes that program's flags and answers as it does: `python -m serving.model_server --port=8500 --rest_api_port=8501
--model_config_file=models.config`. For development and tests; what differs is in README.md beside this file.
"""
