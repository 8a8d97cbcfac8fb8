//! MQTT against mosquitto, and rumqttd as a second implementation: every quality
//! of both versions, restarts of the broker and of the daemon, connections that
//! break, nonsense from either side.

mod delivery;
mod features;
mod nonsense;
mod round;
mod runs;
mod security;
mod sessions;
