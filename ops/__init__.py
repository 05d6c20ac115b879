"""The `weir` command, embedded services, the simulator and the doctor."""
