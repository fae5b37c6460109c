"""What a classifier was asked about one window of a signal; methods only read it."""
