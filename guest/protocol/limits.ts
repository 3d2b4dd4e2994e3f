/**
 * Every bound of the wire, by name. Both ends are built with the same figures.
 *
 * @module
 */

/**
 * The largest frame with header and trailer, but for {@link WIDE_FRAME_BYTES_MAX}: one write of
 * virtio-serial carries no more.
 */
export const FRAME_BYTES_MAX = 32 * 1024;

/**
 * The largest frame with bytes of an output, where the host gave its stream a wide window. Each frame
 * costs an emulated guest some tenths of a millisecond, whatever is in it.
 */
export const WIDE_FRAME_BYTES_MAX = 128 * 1024;

/** The largest message from host to guest (a container's config, files of a volume). */
export const HOST_MESSAGE_BYTES_MAX = 8 * 1024 * 1024;

/** The largest message from guest to host. */
export const GUEST_MESSAGE_BYTES_MAX = 1024 * 1024;

/** Bytes of a stream that may be on the way: sent and not acknowledged as consumed. */
export const STREAM_WINDOW_BYTES = 256 * 1024;

/** The same for outputs of an agent that says that it makes wide frames. */
export const WIDE_WINDOW_BYTES = 512 * 1024;

/** Frames of a stream that may be on the way: bounds what many small writes cost. */
export const STREAM_WINDOW_FRAMES = 256;

/** The receiver acknowledges at once when this part of a window was consumed. */
export const ACKNOWLEDGE_PART = 1 / 4;

/** Received frames after which the receiver acknowledges at once when they are consumed. */
export const ACKNOWLEDGE_FRAMES = 32;

/** How long an acknowledgement of less may be put off, in milliseconds. */
export const ACKNOWLEDGE_DELAY_MS = 20;

/** Streams that one side has open in one direction. */
export const STREAMS_MAX = 1024;

/** The highest stream id. */
export const STREAM_ID_MAX = 0x7fff_ffff;

/** Bytes that all streams of one guest may keep; beyond it each stream may keep a little. */
export const GUEST_RETAINED_BYTES_MAX = 4 * 1024 * 1024;

/** The same on the host, for each guest. */
export const HOST_RETAINED_BYTES_MAX = 32 * 1024 * 1024;

/** What a stream with nothing on the way may send although all streams together keep too much. */
export const STARVED_STREAM_BYTES = 4 * 1024;

/** Frames of control messages that may be on the way unacknowledged. */
export const CONTROL_WINDOW_FRAMES = 64;

/** Received control frames after which they are acknowledged, if nothing else carried it. */
export const CONTROL_ACKNOWLEDGE_FRAMES = 16;

/** Bytes of control messages that the host keeps for a guest. */
export const HOST_CONTROL_BYTES_MAX = 32 * 1024 * 1024;

/** Bytes of control messages that the guest keeps. */
export const GUEST_CONTROL_BYTES_MAX = 2 * 1024 * 1024;

/** Requests that are not answered yet. */
export const REQUESTS_MAX = 1024;

/** Characters of a reason why a stream was reset, or of an error message; the rest is cut off. */
export const REASON_LENGTH_MAX = 1024;

/** First pause before the host says again that it is there; doubled each time, in milliseconds. */
export const OPEN_RETRY_MS = 250;

/** Longest such pause. */
export const OPEN_RETRY_MAX_MS = 4_000;

/** Bytes that the host looks through for the answer to its OPEN. */
export const SCAN_BYTES_MAX = 1024 * 1024;

/**
 * Frames from a guest that were of no use (duplicates, unknown streams and types) which the host
 * takes in one go, and how many per second it forgives.
 */
export const NUISANCE_FRAMES_MAX = 4_096;

/** See {@link NUISANCE_FRAMES_MAX}. */
export const NUISANCE_FRAMES_PER_SECOND = 256;

/** Events that the host takes in one go. */
export const EVENTS_MAX = 4_096;

/** Events per second that the host takes for long. */
export const EVENTS_PER_SECOND = 256;
