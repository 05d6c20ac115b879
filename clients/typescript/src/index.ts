export type { components, operations, paths } from "./schema.js";
export { get } from "./rest.js";
export type { Answer, GetPath, Query } from "./rest.js";
export { Refused, Scans } from "./scans.js";
export type { ExportFormat, NewScan, Scan, ScanFile, UploadOptions } from "./scans.js";
export { LiveClient, waitMs } from "./live.js";
export type { Alert, Channel, Filter, Handlers, Items, Job, LiveOptions, LiveState, Notification, Reading, WebSocketLike } from "./live.js";
