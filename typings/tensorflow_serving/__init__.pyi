"""tensorflow-serving-api ships generated code without types; what protobuf makes at run time is Any here."""
