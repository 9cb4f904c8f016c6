"""Lambda: functions, run by ``engines/functions``."""
