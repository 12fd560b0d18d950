-- Run once, when PostgreSQL's volume is new. The product database, `photoproof`, is made by the image itself.
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_auth;
CREATE DATABASE prefect;
