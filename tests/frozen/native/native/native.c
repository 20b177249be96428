int PyInit_native(void) { return 0; }
