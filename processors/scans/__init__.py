"""Room scans as pure computation: frames in, measurements with their uncertainty out."""
