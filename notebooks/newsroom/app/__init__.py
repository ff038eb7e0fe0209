"""The newsroom's backend: headlines from several feeds, live."""
