"""What users call: functions of matrices, layers, programs with results."""
