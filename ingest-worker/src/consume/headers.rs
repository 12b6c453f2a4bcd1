//! A record's headers as bytes. `rdkafka` takes every name for UTF-8 that ends at its first NUL, and panics over one that
//! is not; it has no other way to them, so the library below it is asked.
#![expect(unsafe_code, reason = "rdkafka reads names of headers as text only")]

use std::ffi::{CStr, c_char, c_void};
use std::mem::offset_of;
use std::{ptr, slice};

use rdkafka::bindings::{
    rd_kafka_header_get_all, rd_kafka_headers_t, rd_kafka_message_headers, rd_kafka_resp_err_t,
    rd_kafka_version,
};
use rdkafka::message::BorrowedMessage;

use super::record::Header;

/// The release of librdkafka whose headers look like [`NativeHeader`]; with another one, names end at their first NUL.
const KNOWN_VERSION: i32 = 0x020c_01ff;

/// What stands before a name (`rdkafka_header.h`): its length, which no function tells.
#[repr(C)]
struct NativeHeader {
    serialized_size: usize,
    value_size: usize,
    name_size: usize,
    value: *const c_void,
    name: [c_char; 1],
}

/// All of them, in the record's order.
pub(super) fn headers(message: &BorrowedMessage<'_>) -> Vec<Header> {
    let mut list = ptr::null_mut();
    // SAFETY: the message is the client's own and outlives this call; `list` then belongs to it.
    let found = unsafe { rd_kafka_message_headers(message.ptr(), &raw mut list) };
    if found != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Vec::new();
    }
    // SAFETY: the list is the message's, which is borrowed here.
    (0..).map_while(|index| unsafe { header(list, index) }).collect()
}

/// # Safety
/// `list` is one of librdkafka's, alive.
unsafe fn header(list: *const rd_kafka_headers_t, index: usize) -> Option<Header> {
    let (mut name, mut value, mut size) = (ptr::null(), ptr::null(), 0);
    // SAFETY: as this function's; it answers with an error beyond the last header.
    let found = unsafe { rd_kafka_header_get_all(list, index, &raw mut name, &raw mut value, &raw mut size) };
    if found != rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return None;
    }
    // SAFETY: name and value are of one header of the list, `size` is the value's length, and a value may be null.
    unsafe {
        let length = name_length(name, value, size);
        let bytes = |start: *const c_void, length| slice::from_raw_parts(start.cast::<u8>(), length).to_vec();
        Some((bytes(name.cast(), length), (!value.is_null()).then(|| bytes(value, size))))
    }
}

/// # Safety
/// All three are of one header of librdkafka's.
unsafe fn name_length(name: *const c_char, value: *const c_void, size: usize) -> usize {
    // SAFETY: a name ends with a NUL that is not part of it.
    let at_least = unsafe { CStr::from_ptr(name) }.count_bytes();
    // SAFETY: takes nothing and returns a number.
    if unsafe { rd_kafka_version() } != KNOWN_VERSION {
        return at_least;
    }
    // SAFETY: this release keeps each header in one allocation of that shape.
    let native = unsafe { &*name.byte_sub(offset_of!(NativeHeader, name)).cast::<NativeHeader>() };
    let is_it = native.value == value && native.value_size == size && native.name_size >= at_least;
    if is_it { native.name_size } else { at_least }
}
