"""The live bridge (DESIGN §9): one hub a process behind WebSocket, server-sent events and Socket.IO."""
