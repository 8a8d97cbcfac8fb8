//! One suite for every driver: what the `Io` contract says, as tests.
//!
//! The in-memory twin takes part in everything that needs no socket of the
//! operating system.

mod datagrams;
mod ends;
mod files;
mod rig;
mod streams;

macro_rules! suite {
    ($driver:ident, $rig:expr, $($room:ident::{$($test:ident),* $(,)?}),* $(,)?) => {
        mod $driver {
            $($(
                #[test]
                fn $test() {
                    let Some(mut rig) = $rig else { return };
                    crate::$room::$test(&mut rig);
                }
            )*)*
        }
    };
}

macro_rules! everywhere {
    ($driver:ident, $rig:expr, $($more:tt)*) => {
        suite!(
            $driver,
            $rig,
            streams::{
                a_stream_is_received_whole_until_its_end,
                receiving_stops_when_every_buffer_is_on_loan_and_goes_on_after_a_release,
                many_streams_share_few_buffers,
                the_ends_of_streams_that_wait_for_a_buffer_are_heard,
                writes_arrive_and_are_reported_in_order,
                a_big_write_outlasts_a_slow_reader,
                writing_to_a_peer_that_is_gone_fails_and_gives_the_buffer_back,
                a_listener_accepts_many_connections,
            },
            files::{
                a_file_is_read_at_offsets_in_pieces_of_the_groups_size,
                reads_wait_for_buffers,
                writes_at_offsets_land_there_and_are_reported_in_order,
                appends_follow_each_other,
                more_operations_than_any_queue_holds_are_all_done,
                a_closed_handle_is_refused,
            },
            ends::{
                a_cancelled_operation_has_exactly_one_final_event,
                cancelling_what_waits_for_a_buffer_ends_it,
                closing_ends_everything_in_flight,
                a_group_outlives_its_drop_until_the_last_lease_is_released,
                timers_fire_in_the_order_of_their_deadlines,
                a_poll_brings_no_more_events_than_asked_for,
            },
            $($more)*
        );
    };
}

macro_rules! on_the_kernel {
    ($driver:ident, $rig:expr) => {
        everywhere!(
            $driver,
            $rig,
            streams::{
                connecting_works_and_is_refused_where_nobody_listens,
                a_unix_stream_connects_and_carries,
                a_pipe_is_read_and_written,
            },
            datagrams::{
                datagrams_sent_in_one_go_arrive_coalesced_with_their_boundaries,
                datagrams_of_any_length_keep_their_boundaries,
                a_datagram_that_is_longer_than_the_buffer_says_so,
                ends_that_do_not_fit_are_refused,
                receiving_datagrams_pauses_without_buffers_and_goes_on,
                a_unix_datagram_socket_that_is_full_is_waited_for,
            },
        );
    };
}

on_the_kernel!(uring, crate::rig::Real::uring());
on_the_kernel!(poll, crate::rig::Real::poll());
everywhere!(memory, crate::rig::Twin::plain(1),);
suite!(
    memory_in_pieces,
    crate::rig::Twin::chopping(2),
    streams::{
        a_stream_is_received_whole_until_its_end,
        many_streams_share_few_buffers,
        writes_arrive_and_are_reported_in_order,
        a_big_write_outlasts_a_slow_reader,
    },
    files::{
        writes_at_offsets_land_there_and_are_reported_in_order,
        appends_follow_each_other,
    },
);
